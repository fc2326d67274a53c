package message

import (
	"bytes"
	"io"
	"math/rand/v2"
	"mime/quotedprintable"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// TestTextsAreNotKeptWhileTheyAreChecked: as many sessions as the listener takes may be in the middle of a text of 3 MB.
func TestTextsAreNotKeptWhileTheyAreChecked(t *testing.T) {
	const sessions, most = 4, 512 << 10
	piece := []byte(strings.Repeat(strings.Repeat("0123456789", 6)+"\r\n", 50_000)) // 3.1 MB
	for _, charset := range []string{"utf-8", "iso-8859-15", "iso-2022-jp"} {
		header := []byte("Content-Type: text/plain; charset=" + charset + "\r\n\r\n")
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		var open []*io.PipeWriter
		done := make(chan error, sessions)
		for range sessions {
			r, w := io.Pipe()
			open = append(open, w)
			go func() { done <- CheckRebuild(header, r) }()
			if _, err := w.Write(piece); err != nil { // it returns when all was read
				t.Fatal(err)
			}
		}
		if kept := (int64(heap()) - int64(before)) / sessions; kept > most {
			t.Errorf("%s: each of %d texts of %d octets keeps %d octets of memory; want at most %d", charset, sessions, len(piece), kept, most)
		}
		for _, w := range open {
			w.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

// TestTextScanSeesPieces: whatever pieces a text comes in, the verdict is that of readable.
func TestTextScanSeesPieces(t *testing.T) {
	for _, text := range []string{"", "Grüße €\r\n", "Gr\xfc\xdfe\r\n", "cut \xe2\x82", "-----BEGIN PGP MESSAGE-----", "\n-----BEGIN PGP SIGNED MESSAGE-----\r\n", "x-----BEGIN PGP MESSAGE-----"} {
		for _, charset := range []string{"us-ascii", "utf-8", "utf-16le", "iso-2022-jp", "gb18030", "klingon"} {
			whole, pieces := newTextScan(charset), newTextScan(charset)
			_, _ = whole.Write([]byte(text))
			for _, b := range []byte(text) {
				_, _ = pieces.Write([]byte{b})
			}
			_, err := readable([]byte(text), charset)
			if a, b := whole.verdict(), pieces.verdict(); (a == nil) != (err == nil) || (b == nil) != (err == nil) {
				t.Errorf("%q in %s: %v, in pieces %v; want %v", text, charset, a, b, err)
			}
			pgp := strings.HasPrefix(strings.TrimPrefix(text, "\n"), "-----BEGIN")
			if whole.armor.found != pgp || pieces.armor.found != pgp {
				t.Errorf("%q: PGP %v, in pieces %v; want %v", text, whole.armor.found, pieces.armor.found, pgp)
			}
		}
	}
}

// TestQuotedPrintableComesBack: what the standard library encodes is decoded to what it was, whatever pieces it comes in.
func TestQuotedPrintableComesBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		text := make([]byte, random.IntN(300))
		for i := range text {
			text[i] = "ab =.\t\r\nz\x00\xff\x1b"[random.IntN(12)]
		}
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r"), nil), []byte("\n"), []byte("\r\n"))
		var encoded bytes.Buffer
		w := quotedprintable.NewWriter(&encoded)
		_, err := w.Write(text)
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]io.Reader{"at once": &encoded, "in pieces": iotest.OneByteReader(bytes.NewReader(encoded.Bytes()))} {
			if got, err := io.ReadAll(newQuotedReader(r)); err != nil || !bytes.Equal(got, text) {
				t.Fatalf("%q, read %s, comes back as %q, %v; want %q", encoded.Bytes(), name, got, err, text)
			}
		}
	}
}

// TestQuotedPrintableOfABrokenReader: trouble of the reader stays that, wherever it comes.
func TestQuotedPrintableOfABrokenReader(t *testing.T) {
	for _, text := range []string{"", "a", "a ", "a=", "a=4", "a\r"} {
		got, err := io.ReadAll(newQuotedReader(io.MultiReader(strings.NewReader(text), iotest.ErrReader(io.ErrUnexpectedEOF))))
		if err != io.ErrUnexpectedEOF || !strings.HasPrefix(text, strings.TrimSuffix(string(got), "\r")) {
			t.Errorf("%q: %q, %v; want the reader's error", text, got, err)
		}
	}
}
