// Package stationery reads the files that a scenario puts into messages: footers, and documents to attach with their name
// and media type. It must not know scenarios, or where the contents are kept: the hall names the files and hands in a
// Putter. A file that cannot be used is an error for the administrator, which names it without its folder.
package stationery

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"postern/bridge/message"
)

const (
	maxFooter = 64 << 10 // octets of a file
	maxName   = 180      // octets, so that its encoded form still fits a line
)

// Putter keeps a content and returns its hash and its size in octets.
type Putter func(io.Reader) (hash string, size int64, err error)

// Footers reads the footer files, "" for none, and keeps what goes below a message's text and its HTML; nil: nothing does.
// HTML gets the text's where there is no file for it.
func Footers(textFile, htmlFile string, put Putter) (text, html *message.Part, err error) {
	keep := func(footer string) (*message.Part, error) {
		hash, size, err := put(strings.NewReader(footer))
		return &message.Part{Hash: hash, Size: size}, err
	}
	below := "" // the HTML
	if textFile != "" {
		footer, err := readFooter(textFile, message.FooterOfText)
		if err != nil {
			return nil, nil, err
		}
		if text, err = keep(footer); err != nil {
			return nil, nil, err
		}
		below = message.FooterHTMLOfText(footer)
	}
	if htmlFile != "" {
		if below, err = readFooter(htmlFile, message.FooterOfHTML); err != nil {
			return nil, nil, err
		}
	}
	if below != "" {
		html, err = keep(below)
	}
	return text, html, err
}

func readFooter(path string, parse func([]byte) (string, error)) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", unreadable(path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFooter+1))
	switch {
	case err != nil:
		return "", unreadable(path, err)
	case len(b) > maxFooter:
		return "", fmt.Errorf("%s is larger than 64 KiB; a footer is a few lines", filepath.Base(path))
	}
	text, err := parse(b)
	if err != nil {
		return "", fmt.Errorf("%s: %w; save it as UTF-8", filepath.Base(path), err)
	}
	return text, nil
}

// unreadable names the file as the administrator wrote it, without the folder.
func unreadable(path string, err error) error {
	return fmt.Errorf("%s cannot be read: %w", filepath.Base(path), cause(err))
}

// cause takes the path off an error.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Attach keeps a file and returns it as a part of a message, under its own name.
func Attach(path string, put Putter) (message.Part, error) {
	name := filepath.Base(path)
	if len(name) > maxName || !utf8.ValidString(name) {
		return message.Part{}, fmt.Errorf("%.40q...: its name is longer than %d octets, or no UTF-8", name, maxName)
	}
	f, err := os.Open(path)
	if err != nil {
		return message.Part{}, unreadable(path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return message.Part{}, fmt.Errorf("%s is not a file", name)
	}
	hash, size, err := put(f)
	if err != nil {
		return message.Part{}, fmt.Errorf("%s cannot be read or kept: %w", name, cause(err))
	}
	return message.Part{Hash: hash, Size: size, Name: name, Type: mediaType(name)}, nil
}

// mediaTypes are those that business mail has. The system's own table comes after them: it differs between machines.
var mediaTypes = map[string]string{
	".pdf": "application/pdf", ".txt": "text/plain", ".csv": "text/csv", ".htm": "text/html", ".html": "text/html",
	".xml": "application/xml", ".json": "application/json", ".zip": "application/zip", ".ics": "text/calendar", ".vcf": "text/vcard",
	".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".tif": "image/tiff", ".tiff": "image/tiff",
	".svg": "image/svg+xml", ".rtf": "application/rtf", ".doc": "application/msword", ".xls": "application/vnd.ms-excel",
	".ppt":  "application/vnd.ms-powerpoint",
	".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	".odt":  "application/vnd.oasis.opendocument.text", ".ods": "application/vnd.oasis.opendocument.spreadsheet",
}

func mediaType(name string) string {
	ext := strings.ToLower(filepath.Ext(name))
	if t := mediaTypes[ext]; t != "" {
		return t
	}
	if t, _, err := mime.ParseMediaType(mime.TypeByExtension(ext)); err == nil && !strings.HasPrefix(t, "multipart/") && !strings.HasPrefix(t, "message/") {
		return t
	}
	return "application/octet-stream"
}
