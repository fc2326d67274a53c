package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// docs writes what the packages ship: man pages and completions, from the same source as the help.
func (c *cli) docs() *cobra.Command {
	var example string
	cmd := &cobra.Command{
		Use:     "docs FOLDER",
		Short:   "Write man pages and completions",
		Example: "  postern docs --example config.example.toml ./docs",
		Args:    exactArgs("FOLDER"),
		Hidden:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeDocs(cmd.Root(), args[0], example)
		},
	}
	cmd.Flags().StringVar(&example, "example", "config.example.toml", "`FILE` for postern.toml(5)")
	return cmd
}

func writeDocs(root *cobra.Command, dir, example string) error {
	for _, sub := range []string{"man1", "man5", "completions"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	root.DisableAutoGenTag = true // it holds today's date, and two builds must be identical
	date := buildDate()
	header := &doc.GenManHeader{Section: "1", Source: "Postern", Manual: "Postern", Date: &date}
	if err := doc.GenManTree(root, header, filepath.Join(dir, "man1")); err != nil {
		return err
	}
	in, err := os.Open(example)
	if err != nil {
		return err
	}
	defer in.Close()
	page, err := os.Create(filepath.Join(dir, "man5", "postern.toml.5"))
	if err != nil {
		return err
	}
	if err := writeConfigManual(page, in, date); err != nil {
		page.Close()
		return err
	}
	if err := page.Close(); err != nil {
		return err
	}
	for name, write := range map[string]func(string) error{
		"postern.bash": func(p string) error { return root.GenBashCompletionFileV2(p, true) },
		"_postern":     root.GenZshCompletionFile,
		"postern.fish": func(p string) error { return root.GenFishCompletionFile(p, true) },
		"postern.ps1":  root.GenPowerShellCompletionFileWithDesc,
	} {
		if err := write(filepath.Join(dir, "completions", name)); err != nil {
			return err
		}
	}
	return nil
}

// buildDate is SOURCE_DATE_EPOCH (reproducible-builds.org), so that a page does not change with the day it is built.
func buildDate() time.Time {
	var seconds int64
	if _, err := fmt.Sscan(os.Getenv("SOURCE_DATE_EPOCH"), &seconds); err != nil {
		return time.Now().UTC()
	}
	return time.Unix(seconds, 0).UTC()
}

var (
	keyLine   = regexp.MustCompile(`^#?([a-z_]+)\s*=\s*(.*)$`)
	tableLine = regexp.MustCompile(`^#?(\[\[?[a-z.]+\]\]?)$`)
)

// writeConfigManual turns the example, which explains every key, into postern.toml(5): a table becomes a section, a key
// with the comment before it a paragraph.
func writeConfigManual(w io.Writer, example io.Reader, date time.Time) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, ".TH \"POSTERN.TOML\" \"5\" \"%s\" \"Postern\" \"Postern\"\n.SH NAME\npostern.toml \\- the configuration of Postern\n.SH DESCRIPTION\n",
		date.Format("Jan 2006"))
	var comment []string
	text := func() string {
		s := roff(strings.Join(comment, " "))
		comment = nil
		return s
	}
	lines := bufio.NewScanner(example)
	for lines.Scan() {
		line := lines.Text()
		if m := tableLine.FindStringSubmatch(line); m != nil {
			fmt.Fprintf(out, ".SH %s\n", roff(m[1]))
			if len(comment) > 0 {
				fmt.Fprintf(out, "%s\n", text())
			}
		} else if m := keyLine.FindStringSubmatch(line); m != nil {
			fmt.Fprintf(out, ".TP\n.B %s = %s\n%s\n", roff(m[1]), roff(m[2]), text())
		} else if rest, ok := strings.CutPrefix(line, "#"); ok {
			comment = append(comment, strings.TrimSpace(rest))
		} else if len(comment) > 0 {
			fmt.Fprintf(out, "%s\n.PP\n", text())
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	fmt.Fprint(out, ".SH SEE ALSO\npostern(1)\n")
	return out.Flush()
}

// roff escapes what roff(7) would take for a command.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
