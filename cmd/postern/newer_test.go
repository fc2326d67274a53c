package main

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
)

// TestQueueOfANewerVersion: a program that is too old says which one opens the queue, and is not to be restarted.
func TestQueueOfANewerVersion(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "smtp")
	startDaemon(t, file).terminate()
	db, err := sql.Open("sqlite", filepath.Join(filepath.Dir(file), "data", "queue.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{"UPDATE notes SET value = '9.1.0' WHERE key = 'program'", "PRAGMA user_version = 9"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	out, status := outcome(t, "", "run", "--config", file)
	if status != exitConfig || !strings.Contains(out, "run version 9.1.0 or a later one") {
		t.Errorf("exit status %d; want 78 and the version:\n%s", status, out)
	}
}
