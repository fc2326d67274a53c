package bridge

import (
	"context"
	"io"
	"path/filepath"

	"postern/bridge/backup"
	"postern/bridge/config"
	"postern/bridge/event"
	"postern/bridge/origin"
)

// Backup implements control.Queue. The copy knows that it is one: a start on it holds everything.
func (a *mailAdmin) Backup(ctx context.Context, to io.Writer) error {
	_, store, err := a.open(ctx)
	if err != nil {
		return err
	}
	notes, err := origin.BackupNotes()
	if err != nil {
		return err
	}
	cfg := a.cfg()
	return backup.Write(ctx, to, backup.Options{DataDir: cfg.Bridge.DataDir, Store: store, StoreFile: filepath.Base(storeFile(cfg)), Notes: notes,
		Contents: filepath.Base(contentsDir(cfg)), Sealed: a.sealed})
}

// placeOf is where the configuration keeps the store.
func placeOf(cfg *config.Config, store origin.Store, events *event.Bus) origin.Place {
	return origin.Place{DataDir: cfg.Bridge.DataDir, Machine: origin.Machine(), Store: store, Events: events}
}
