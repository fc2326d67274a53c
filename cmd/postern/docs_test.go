package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDocs: the packages ship a page for each verb, and one for the configuration with every key of the example.
func TestDocs(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "1763600000")
	if status := run([]string{"docs", "--example", "../../config.example.toml", dir}, strings.NewReader(""), io.Discard, os.Stderr); status != exitDone {
		t.Fatalf("exit status %d", status)
	}
	for _, name := range []string{"man1/postern.1", "man1/postern-run.1", "man1/postern-secret-set.1", "man5/postern.toml.5",
		"completions/postern.bash", "completions/_postern", "completions/postern.fish", "completions/postern.ps1"} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "man5/postern.toml.5"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".SH [[listener]]", ".B data_dir = ", ".B tolerate = ", ".B keep_history = ", "Nov 2025"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("postern.toml(5) lacks %q", want)
		}
	}
}

func TestConfigManual(t *testing.T) {
	example := "# What it is.\n#\n# - a list\n\n[bridge]\n\n# The folder. 'quoted'\n# Second line with a \\ in it.\n#data_dir = \"/var/lib\"\n\n# A list of things.\n[[user]]\nname = \"nav\"\n"
	want := ".TH \"POSTERN.TOML\" \"5\" \"Jan 1970\" \"Postern\" \"Postern\"\n.SH NAME\npostern.toml \\- the configuration of Postern\n.SH DESCRIPTION\n" +
		"What it is.  \\- a list\n.PP\n.SH [bridge]\n.TP\n.B data_dir = \"/var/lib\"\nThe folder. 'quoted' Second line with a \\e in it.\n" +
		".SH [[user]]\nA list of things.\n.TP\n.B name = \"nav\"\n\n.SH SEE ALSO\npostern(1)\n"
	var got bytes.Buffer
	if err := writeConfigManual(&got, strings.NewReader(example), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}
