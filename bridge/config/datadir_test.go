package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDataDirOfABrokenFile(t *testing.T) {
	def := Default().Bridge.DataDir
	for _, tc := range []struct {
		name, text string
		want       string // relative: to the file's folder; "" where it cannot be found
	}{
		{"a file without mistakes", "[bridge]\ndata_dir = \"data\"\n" + minimal, "data"},
		{"an unknown key", "[bridge]\ndata_dir = 'data'\nhostnam = \"x\"\n" + minimal, "data"},
		{"a string without an end", "[bridge]\ndata_dir = 'data' # here\n[[listener]]\naddress = \"127.0.0.1:25\n", "data"},
		{"an end in the middle of a table's name", "bridge.data_dir = \"data\"\n[[listen", "data"},
		{"an ANSI letter in a comment", "# f\xfcr\n[bridge]\r\n  data_dir=\"data\"\r\n", "data"},
		{"a BOM before a syntax error", "\ufeffdata_dir = \"data\"\n[x", "data"},
		{"a table name that is misspelt", "[brigde]\ndata_dir = \"data\"\n", "data"},
		{"an array of what is one table", "[[bridge]]\ndata_dir = \"data\"\n", "data"},
		{"an inline table", "bridge = { data_dir = \"data\" }\nx = 1\n", "data"},
		{"the first of two", "[bridge]\ndata_dir = \"data\"\ndata_dir = \"other\"\n", "data"},
		{"nothing said is the default", "[[listener]]\naddress = \"\n", def},
		{"an empty one is the default", "[bridge]\ndata_dir = \"\"\n", def},
		{"commented out is the default", "[bridge]\n#data_dir = \"data\"\n[x", def},
		{"data_dir itself half written", "[bridge]\ndata_dir = \"da\n", ""},
		{"data_dir that is no path", "[bridge]\ndata_dir = 3\n", ""},
		{"a control character", "[bridge]\ndata_dir = \"C:\\temp\"\n", ""},
		{"a bomb", "data_dir = [[[[[[[[[[[[\n[x", ""},
		{"UTF-16", "[\x00b\x00", ""},
		{"an included file", "include = [\"more.toml\"]\n[x", "included"},
		{"an included file of a file that is TOML", "include = [\n  \"*.toml\",\n]\n[nosuch]\n", "included"},
		{"an include half written", "include = [\"more.toml\"\n", ""},
		{"an include that is no list", "include = 3\n", ""},
		{"an include that is not there", "include = [\"none.toml\"]\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := write(t, tc.text)
			if err := os.WriteFile(filepath.Join(filepath.Dir(path), "more.toml"), []byte("[bridge]\ndata_dir = \"included\"\n[[x"), 0o600); err != nil {
				t.Fatal(err)
			}
			want := tc.want
			if want != "" && !filepath.IsAbs(want) {
				want = filepath.Join(filepath.Dir(path), want)
			}
			if dir, ok := DataDir(path); ok != (want != "") || ok && dir != want {
				t.Errorf("DataDir = %q, %v; want %q", dir, ok, want)
			}
		})
	}
	if dir, ok := DataDir(filepath.Join(t.TempDir(), "none.toml")); ok {
		t.Errorf("DataDir of no file = %q", dir)
	}
}
