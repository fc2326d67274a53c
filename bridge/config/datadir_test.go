package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestDataDirOfABrokenFile(t *testing.T) {
	def := Default().Bridge.DataDir
	const errNone = "names none"
	for _, tc := range []struct {
		name, text string
		want       string // relative: to the file's folder; "" where it cannot be known
	}{
		{"a file without mistakes", "[bridge]\ndata_dir = \"data\"\n" + minimal, "data"},
		{"an unknown key", "[bridge]\ndata_dir = 'data'\nhostnam = \"x\"\n" + minimal, "data"},
		{"a string without an end", "[bridge]\ndata_dir = 'data' # here\n[[listener]]\naddress = \"127.0.0.1:25\n", "data"},
		{"an end in the middle of a table's name", "bridge.data_dir = \"data\"\n[[listen", "data"},
		{"an ANSI letter in a comment", "# f\xfcr\n[bridge]\r\n  data_dir=\"data\"\r\n", "data"},
		{"a BOM before a syntax error", "\ufeffbridge.data_dir = \"data\"\n[x", "data"},
		{"a table name that is misspelt", "[brigde]\ndata_dir = \"data\"\n", ""},
		{"no table's name above it", "data_dir = \"data\"\n[x", ""},
		{"another table's name above it", "[queue]\ndata_dir = \"data\"\n[bridge]\n", ""},
		{"an array of what is one table", "[[bridge]]\ndata_dir = \"data\"\n", "data"},
		{"an inline table", "bridge = { data_dir = \"data\" }\nx = 1\n", "data"},
		{"an inline table in a broken file", "bridge = { data_dir = \"data\" }\n[x", ""},
		{"a key in quotes", "[bridge]\n\"data_dir\" = \"data\"\nx = 1\n", "data"},
		{"a key in quotes in a broken file", "[bridge]\n\"data_dir\" = \"data\"\n[x", ""},
		{"two", "[bridge]\ndata_dir = \"data\"\ndata_dir = \"other\"\n", ""},
		{"two of two tables", "[[bridge]]\ndata_dir = \"data\"\n[[bridge]]\ndata_dir = \"other\"\n", ""},
		{"two that differ by case", "[bridge]\ndata_dir = \"data\"\nData_Dir = \"other\"\n", ""},
		{"the word in a value", "[bridge]\ndata_dir = 'data_dir' # no datadir\ntls_cert = \"/srv/datadir/c.pem\"\n[x", "data_dir"},
		{"a line of a string of several lines", "[bridge]\nhostname = \"\"\"\ndata_dir = \"data\"\n\"\"\"\n[x", ""},
		{"a string of several lines before it", "[bridge]\nhostname = '''\ndata_dir = \"other\"\n'''\ndata_dir = \"data\"\n[x", ""},
		{"a string of several lines before one", "[bridge]\nhostname = '''\n'''\ndata_dir = \"data\"\n[x", ""},
		{"a string of several lines in a file that is TOML", "[bridge]\nhostname = '''\ndata_dir = \"other\"\n'''\ndata_dir = \"data\"\n", "data"},
		{"misspelt", "[bridge]\ndatadir = \"data\"\n" + minimal, ""},
		{"in capitals", "[bridge]\nData_Dir = \"data\"\n" + minimal, ""},
		{"with a hyphen", "[bridge]\ndata-dir = \"data\"\n" + minimal, ""},
		{"a colon for the =", "[bridge]\ndata_dir : \"data\"\n" + minimal, ""},
		{"all on one line", "[bridge] data_dir = \"data\"\n" + minimal, ""},
		{"CR alone at the ends of lines", "[bridge]\rdata_dir = \"data\"\r", ""},
		{"CR alone after a comment", "# ours\rdata_dir = \"data\"\r", ""},
		{"a blank that is none of TOML's before it", "[bridge]\n\u00a0data_dir = \"data\"\n", ""},
		{"another word for it", "[bridge]\ndirectory = \"data\"\n", ""},
		{"an unknown key of the same table and none", "[bridge]\nhome = \"data\"\n", errNone},
		{"a table name that may be misspelt and none", "[brigde]\nhostname = \"x\"\n", errNone},
		{"an unknown key above all tables", "state = \"data\"\n[bridge]\n", errNone},
		{"nothing said in a file that is TOML is the default", "[queue]\nnosuch = 1\n[[uesr]]\n", def},
		{"nothing said in a broken one", "[[listener]]\naddress = \"\n", errNone},
		{"an empty one", "[bridge]\ndata_dir = \"\"\n", ""},
		{"commented out in a broken file", "[bridge]\n#data_dir = \"data\"\n[x", errNone},
		{"commented out in a file that is TOML is the default", "[bridge]\n#data_dir = \"data\"\n", def},
		{"data_dir itself half written", "[bridge]\ndata_dir = \"da\n", ""},
		{"data_dir that is no path", "[bridge]\ndata_dir = 3\n", ""},
		{"a control character", "[bridge]\ndata_dir = \"C:\\temp\"\n", ""},
		{"a bomb", "data_dir = [[[[[[[[[[[[\n[x", ""},
		{"UTF-16", "[\x00b\x00", ""},
		{"an included file", "include = [\"more.toml\"]\n[x", "included"},
		{"an included file of a file that is TOML", "include = [\n  \"m*.toml\",\n]\n[nosuch]\n", "included"},
		{"an include half written", "include = [\"more.toml\"\n", ""},
		{"an include half written beside a data_dir", "[bridge]\ndata_dir = \"data\"\n[[x]]\ninclude = [\"more.toml\"\n", "data"},
		{"an include that is no list", "include = 3\n", ""},
		{"an include that is not there", "include = [\"none.toml\"]\n", ""},
		{"an include in quotes", "\"include\" = [\"more.toml\"]\n[nosuch]\n", "included"},
		{"an include in quotes in a broken file", "\"include\" = [\"more.toml\"]\n[x", ""},
		{"an include that is misspelt", "inclde = [\"more.toml\"]\n", ""},
		{"an include in a table", "[bridge]\ninclude = [\"more.toml\"]\n", ""},
		{"an include in an included file", "include = [\"deep.toml\"]\n", ""},
		{"one here and one in an included file", "include = [\"more.toml\"]\n[bridge]\ndata_dir = \"data\"\n", ""},
		{"one here and a misspelt one in an included file", "include = [\"wrong.toml\"]\n[bridge]\ndata_dir = \"data\"\n", ""},
		{"an included file that is broken and names none", "include = [\"none-*.toml\"]\n", errNone},
		{"an included file that is no text", "include = [\"utf16.toml\"]\n", ""},
		{"an included file that is no text beside a data_dir", "include = [\"utf16.toml\"]\n[bridge]\ndata_dir = \"data\"\n", "data"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := write(t, tc.text)
			for name, text := range map[string]string{"more.toml": "[bridge]\ndata_dir = \"included\"\n[[x", "deep.toml": "include = [\"more.toml\"]\n",
				"wrong.toml": "[bridge]\ndata-dir = \"included\"\n", "none-1.toml": "[[user]]\nname = \"\n", "utf16.toml": "[\x00b\x00"} {
				if err := os.WriteFile(filepath.Join(filepath.Dir(path), name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, wantErr := tc.want, error(nil)
			switch {
			case tc.name == "UTF-16":
				wantErr = errNoText
			case want == "":
				wantErr = ErrDoubtfulDataDir
			case want == errNone:
				want, wantErr = "", ErrNoDataDir
			case !filepath.IsAbs(want):
				want = filepath.Join(filepath.Dir(path), want)
			}
			if dir, err := DataDir(path); !errors.Is(err, wantErr) || dir != want {
				t.Errorf("DataDir = %q, %v; want %q, %v", dir, err, want, wantErr)
			}
		})
	}
	if dir, err := DataDir(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("DataDir of no file = %q, %v", dir, err)
	}
}

// TestNoOtherKeyResembles: a file with every key of the manual is in doubt about none of them.
func TestNoOtherKeyResembles(t *testing.T) {
	for kind, keys := range manual() {
		for _, key := range keys {
			for _, ours := range []string{"data_dir", "include"} {
				if resembles(key, ours) != (key == ours) || resembles(kind, ours) {
					t.Errorf("%s of %q is taken for %s", key, kind, ours)
				}
			}
		}
	}
}
