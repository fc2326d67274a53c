package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOldTLSLowersTheDefault(t *testing.T) {
	minimal, err := os.ReadFile(filepath.Join("testdata", "good", "minimal.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, keys, want string }{
		{"without it TLS 1.2", "", "1.2"},
		{"with it TLS 1.0", `tolerate = ["old-tls"]`, "1.0"},
		{"with it and min_tls what min_tls says", `tolerate = ["old-tls"]` + "\n" + `min_tls = "1.2"`, "1.2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "postern.toml")
			text := string(minimal) + "\n[[listener]]\naddress = \"127.0.0.1:465\"\ntls = \"implicit\"\ntls_cert = \"c.pfx\"\n" + tc.keys + "\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Listeners[len(c.Listeners)-1].MinTLS; got != tc.want {
				t.Errorf("MinTLS = %s; want %s", got, tc.want)
			}
		})
	}
}
