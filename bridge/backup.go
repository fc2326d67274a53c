package bridge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"postern/bridge/backup"
	"postern/bridge/config"
	"postern/bridge/datadir"
	"postern/bridge/event"
	"postern/bridge/origin"
	"postern/bridge/queue"
)

// Backup implements control.Queue. The copy knows that it is one: a start on it holds everything. Who has it can send as
// us, so there is a line of who took it.
func (a *admin) Backup(ctx context.Context, to io.Writer) error {
	store, err := a.toCopy(ctx)
	if err != nil {
		return err
	}
	notes, err := origin.BackupNotes()
	if err != nil {
		return err
	}
	cfg := a.cfg
	counted := &counter{to: to}
	err = backup.Write(ctx, counted, backup.Options{DataDir: cfg.Bridge.DataDir, Store: store, StoreFile: filepath.Base(storeFile(cfg)),
		StoreLog: filepath.Base(storeFile(cfg)) + "-wal", Notes: notes, Contents: filepath.Base(contentsDir(cfg)), Sealed: a.sealed,
		Free: func() (int64, error) { return freeForQueue(cfg, 0) }, Least: cfg.Queue.MinFreeDisk})
	if err != nil {
		return err
	}
	a.audit(ctx, event.BackupWritten, slog.Int64("size", counted.n))
	return nil
}

// counter counts what passes through it.
type counter struct {
	to io.Writer
	n  int64
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}

// placeOf is where the configuration keeps the store.
func placeOf(cfg *config.Config, store origin.Store, events *event.Bus) origin.Place {
	return origin.Place{DataDir: cfg.Bridge.DataDir, Machine: origin.Machine(), Store: store, Events: events, Elsewhere: elsewhere(cfg),
		Full: func(err error) bool { return errors.Is(err, queue.ErrFull) || datadir.Full(err) }}
}

// visitedPlace is placeOf for a command while no daemon runs. It does not have the environment that systemd gives to the
// service, and looks where the packaged unit has the service's cache folder.
func visitedPlace(cfg *config.Config, store origin.Store, events *event.Bus) origin.Place {
	p := placeOf(cfg, store, events)
	if p.Elsewhere == "" && runtime.GOOS != "windows" {
		p.Elsewhere = "/var/cache/postern"
	}
	return p
}

// elsewhere is a folder outside of data_dir that Postern may write: that of a log file, else the cache folder that systemd
// gives to the service (systemd.exec(5)). "" where there is none.
func elsewhere(cfg *config.Config) string {
	folder := filepath.Dir(cfg.Log.File)
	if cfg.Log.To != "file" || folder == filepath.Clean(cfg.Bridge.DataDir) {
		folder, _, _ = strings.Cut(os.Getenv("CACHE_DIRECTORY"), ":")
	}
	return folder
}
