package bridge

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ownWords are the errors whose text is made for applications and may stand in a reply: what cannot be rebuilt of a
// message, in message's words. smtpd's own replies name an address by envelope's.
var ownWords = map[string]bool{"cannot.Error": true}

// TestRepliesAreOurWords reads every refusal that a client may be told out of the source: its enhanced status is of the
// class of its code, its text is fixed here, and nothing in it is an error, which might be the system's or a library's.
// The transports' are left out, which are outcomes, for reports and the log, and those of control, which the command line
// reads.
func TestRepliesAreOurWords(t *testing.T) {
	found := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{"transport", "relay", "sandbox", "control", "testdata"}, d.Name()):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			r, ok := refusalOf(n)
			if !ok {
				return true
			}
			found++
			for _, m := range r.mistakes() {
				t.Errorf("%s: %s", set.Position(n.Pos()), m)
			}
			return true
		})
		return nil
	})
	if err != nil || found < 30 {
		t.Errorf("%d refusals were found (%v); the test sees too little", found, err)
	}
}

// refusal is what the source says of one.
type refusal struct {
	code, enhanced ast.Expr
	text           []ast.Expr
}

// refusalOf recognises &reply.Error{Code: ..., Enhanced: ..., Text: ...} and submission's refuse(code, enhanced, format, ...).
func refusalOf(n ast.Node) (r refusal, ok bool) {
	switch n := n.(type) {
	case *ast.CallExpr:
		if f, is := n.Fun.(*ast.Ident); is && f.Name == "refuse" && len(n.Args) >= 3 {
			return refusal{n.Args[0], n.Args[1], n.Args[2:]}, true
		}
	case *ast.CompositeLit:
		sel, is := n.Type.(*ast.SelectorExpr)
		if !is || sel.Sel.Name != "Error" || fmt.Sprint(sel.X) != "reply" {
			return r, false
		}
		for _, e := range n.Elts {
			kv := e.(*ast.KeyValueExpr)
			switch fmt.Sprint(kv.Key) {
			case "Code":
				r.code = kv.Value
			case "Enhanced":
				r.enhanced = kv.Value
			case "Text":
				r.text = []ast.Expr{kv.Value}
			}
		}
		return r, true
	}
	return r, false
}

func (r refusal) mistakes() (list []string) {
	if r.code == nil || r.enhanced == nil || len(r.text) == 0 {
		return []string{"a refusal without code, status or text"}
	}
	code, literal := r.code.(*ast.BasicLit)
	status, _ := r.enhanced.(*ast.BasicLit)
	if literal && status != nil { // else it is handed on from another that was looked at
		enhanced, _ := strconv.Unquote(status.Value)
		if !strings.HasPrefix(enhanced, code.Value[:1]+".") || strings.Count(enhanced, ".") != 2 {
			list = append(list, "the status of "+code.Value+" is "+enhanced)
		}
	}
	for _, e := range r.text {
		ast.Inspect(e, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				if n.Name == "err" {
					list = append(list, "an error stands in its text")
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "Error" && !ownWords[fmt.Sprint(n.X)+".Error"] {
					list = append(list, "an error stands in its text")
				}
			}
			return true
		})
	}
	return list
}

// TestWhatIsNoReplyOfOurs proves that TestRepliesAreOurWords can fail.
func TestWhatIsNoReplyOfOurs(t *testing.T) {
	for _, tc := range []struct{ name, source, mistake string }{
		{"fixed words", `&reply.Error{Code: 451, Enhanced: "4.3.0", Text: "later", Err: err}`, ""},
		{"numbers and names in it", `refuse(552, "5.3.4", "larger than %d octets", limit)`, ""},
		{"a text of its own kind of error", `refuse(554, "5.6.1", "it cannot: %s", printable(cannot.Error()))`, ""},
		{"an error as its text", `&reply.Error{Code: 451, Enhanced: "4.3.0", Text: err.Error()}`, "an error stands"},
		{"an error in its text", `refuse(451, "4.3.0", "not now: %v", err)`, "an error stands"},
		{"another error in its text", `refuse(451, "4.3.0", "not now: %s", fault.Error())`, "an error stands"},
		{"a status of another class", `refuse(451, "5.3.0", "not now")`, "the status of 451 is 5.3.0"},
		{"no status", `&reply.Error{Code: 451, Text: "not now"}`, "without code, status or text"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := parser.ParseExpr(tc.source)
			if err != nil {
				t.Fatal(err)
			}
			var list []string
			ast.Inspect(e, func(n ast.Node) bool {
				if r, ok := refusalOf(n); ok {
					list = append(list, r.mistakes()...)
				}
				return true
			})
			if got := strings.Join(list, "; "); (got == "") != (tc.mistake == "") || !strings.Contains(got, tc.mistake) {
				t.Errorf("mistakes = %q; want %q", got, tc.mistake)
			}
		})
	}
}
