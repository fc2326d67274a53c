package event

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestEveryKindHasItsNumber reads the constants of event.go, so that a new kind cannot be forgotten.
func TestEveryKindHasItsNumber(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[Kind]uint32{}
	last := uint32(0)
	for _, n := range Numbers() {
		if n.Number <= last || n.Number >= 1000 || n.Meaning == "" {
			t.Errorf("%d %q: numbers rise from 1 to 999, each with a meaning", n.Number, n.Kind)
		}
		last = n.Number
		if numbers[n.Kind] != 0 {
			t.Errorf("%q has two numbers", n.Kind)
		}
		numbers[n.Kind] = n.Number
	}
	seen := 0
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		lit, ok := spec.Values[0].(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		kind, _ := strconv.Unquote(lit.Value)
		seen++
		if numbers[Kind(kind)] == 0 {
			t.Errorf("%s = %q has no number: add it to Numbers, and run this package's tests and the README's with -update", spec.Names[0], kind)
		}
		if NumberOf(Kind(kind)) == 1000 {
			t.Errorf("NumberOf(%q) = 1000", kind)
		}
		return true
	})
	if seen != len(numbers) || seen < 30 {
		t.Errorf("event.go has %d kinds, and Numbers %d", seen, len(numbers))
	}
}

// TestReadmeHasTheTable holds the README's table of numbers equal to the code's. POSTERN_UPDATE=1 rewrites it.
func TestReadmeHasTheTable(t *testing.T) {
	const file, begin, end = "../../README.md", "<!-- event numbers -->\n", "<!-- end of event numbers -->\n"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	has, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("the README has no place for the table: %q and %q", begin, end)
	}
	var want strings.Builder
	want.WriteString("| number | event | means |\n|---|---|---|\n")
	for _, n := range Numbers() {
		fmt.Fprintf(&want, "| %d | %s | %s |\n", n.Number, n.Kind, n.Meaning)
	}
	if has == want.String() {
		return
	}
	if os.Getenv("POSTERN_UPDATE") == "" {
		t.Fatal("the README's table of event numbers is not the code's; run: POSTERN_UPDATE=1 go test ./bridge/event")
	}
	if err := os.WriteFile(file, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
