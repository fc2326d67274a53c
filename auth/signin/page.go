package signin

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"html/template"
	"net/http"
)

//go:embed page.html
var pageHTML string

// page is what the browser shows in the end.
type page struct {
	status      int
	title, text string
}

// write sends a page that runs nothing, is kept nowhere and tells nobody the address, which has the code in it.
func write(w http.ResponseWriter, p page) {
	d := struct{ Nonce, Title, Text string }{rand.Text(), p.title, p.text}
	var b bytes.Buffer
	t, err := template.New("page").Parse(pageHTML)
	if err == nil {
		err = t.Execute(&b, d)
	}
	if err != nil { // a broken program
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; img-src data:; style-src 'nonce-"+d.Nonce+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Connection", "close")
	w.WriteHeader(p.status)
	_, _ = w.Write(b.Bytes()) // a browser that left is its own affair
}
