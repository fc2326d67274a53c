// Command sbom prints an SPDX 2.3 document in JSON of the modules that were linked into a Go binary, as the linker noted
// them. packaging/build calls it: sbom VERSION BINARY. The same binary gives the same document.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

type document struct {
	SPDXVersion       string         `json:"spdxVersion"`
	DataLicense       string         `json:"dataLicense"`
	SPDXID            string         `json:"SPDXID"`
	Name              string         `json:"name"`
	DocumentNamespace string         `json:"documentNamespace"`
	CreationInfo      creation       `json:"creationInfo"`
	Packages          []module       `json:"packages"`
	Relationships     []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type module struct {
	SPDXID           string      `json:"SPDXID"`
	Name             string      `json:"name"`
	VersionInfo      string      `json:"versionInfo"`
	DownloadLocation string      `json:"downloadLocation"`
	FilesAnalyzed    bool        `json:"filesAnalyzed"`
	ExternalRefs     []reference `json:"externalRefs,omitempty"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: sbom VERSION BINARY")
		os.Exit(64)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(version, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", Name: "postern " + version,
		DocumentNamespace: fmt.Sprintf("https://postern.invalid/spdx/%x", sha256.Sum256(content)),
		CreationInfo:      creation{time.Unix(seconds, 0).UTC().Format(time.RFC3339), []string{"Tool: postern packaging/sbom"}},
		Packages: []module{
			{SPDXID: "SPDXRef-postern", Name: "postern", VersionInfo: version, DownloadLocation: "NOASSERTION"},
			{SPDXID: "SPDXRef-go", Name: "go", VersionInfo: strings.TrimPrefix(info.GoVersion, "go"), DownloadLocation: "NOASSERTION",
				ExternalRefs: purl("golang/std", strings.TrimPrefix(info.GoVersion, "go"))},
		},
		Relationships: []relationship{
			{"SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-postern"}, {"SPDXRef-postern", "DEPENDS_ON", "SPDXRef-go"}},
	}
	for i, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		id := fmt.Sprintf("SPDXRef-module-%d", i+1)
		d.Packages = append(d.Packages, module{SPDXID: id, Name: m.Path, VersionInfo: m.Version, DownloadLocation: "NOASSERTION",
			ExternalRefs: purl("golang/"+m.Path, m.Version)})
		d.Relationships = append(d.Relationships, relationship{"SPDXRef-postern", "DEPENDS_ON", id})
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", " ")
	return e.Encode(d)
}

// purl is the package URL, by which a scanner finds advisories.
func purl(name, version string) []reference {
	return []reference{{"PACKAGE-MANAGER", "purl", "pkg:" + name + "@" + version}}
}
