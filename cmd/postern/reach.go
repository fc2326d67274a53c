package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"postern/bridge"
	"postern/bridge/config"
	"postern/bridge/control"
)

// service reaches the running daemon, or opens data_dir itself where none runs.
func (c *cli) service(ctx context.Context) (control.Service, func() error, error) {
	return c.warned(c.open(ctx, bridge.Admin))
}

// serviceOrNew is service for what may come before the first start, and so may make data_dir.
func (c *cli) serviceOrNew(ctx context.Context) (control.Service, func() error, error) {
	return c.warned(c.open(ctx, bridge.AdminNew))
}

// opened is a way to the service. broken is what is wrong with the file where the running daemon is asked all the same.
type opened struct {
	control.Service
	done   func() error
	broken *config.Mistakes
}

// open loads the configuration and opens the service with it. A file with mistakes does not keep anybody from the running
// daemon, which goes on with the former one.
func (c *cli) open(ctx context.Context, admin func(context.Context, *config.Config) (control.Service, func() error, error)) (o opened, err error) {
	cfg, err := c.load()
	if err == nil {
		o.Service, o.done, err = admin(ctx, cfg)
		return o, err
	}
	client, mistakes, err := c.despite(ctx, err)
	if err != nil {
		return o, err
	}
	return opened{client, client.Close, mistakes}, nil
}

// warned tells of a broken file on standard error.
func (c *cli) warned(o opened, err error) (control.Service, func() error, error) {
	if err != nil {
		return nil, nil, err
	}
	c.warnBroken(o.broken)
	return o.Service, o.done, nil
}

func (c *cli) warnBroken(m *config.Mistakes) {
	if m != nil {
		fmt.Fprintf(c.err, "warning: the running daemon was asked, and the file has mistakes: %s; run: postern check\n", m.List[0])
	}
}

// warnStopped says that what was printed is all that there will be: without it everything may look in order.
func (c *cli) warnStopped(svc control.Service) {
	if _, running := svc.(*control.Client); !running {
		fmt.Fprintln(c.err, "warning: postern is not running, and no mail leaves; run: postern service start")
	}
}

// despite reaches the running daemon where the configuration could not be loaded for the reason err: by what the file says
// of data_dir, whatever else is wrong with it. Where no daemon is found it returns err.
func (c *cli) despite(ctx context.Context, err error) (*control.Client, *config.Mistakes, error) {
	var mistakes *config.Mistakes
	if !errors.As(err, &mistakes) {
		return nil, nil, err
	}
	dir, ok := dataDirOf(c.config, systemConfig())
	if !ok {
		return nil, nil, err
	}
	client, dialErr := control.Dial(ctx, dir)
	switch {
	case errors.Is(dialErr, control.ErrNotRunning):
		return nil, nil, err
	case dialErr != nil:
		return nil, nil, dialErr
	}
	return client, mistakes, nil
}

// dataDirOf is what the file says of data_dir, whatever else is wrong with it. The platform's own file means the platform's
// own folder where it names no other, is gone, or may not be read; another file means nothing then.
func dataDirOf(file, platform string) (dir string, ok bool) {
	dir, err := config.DataDir(file)
	switch {
	case err == nil:
		return dir, true
	case file == platform && (errors.Is(err, config.ErrNoDataDir) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
		return config.Default().Bridge.DataDir, true
	}
	return "", false
}

// dial reaches the running daemon alone.
func (c *cli) dial(ctx context.Context) (*control.Client, error) {
	cfg, err := c.load()
	if err != nil {
		client, mistakes, err := c.despite(ctx, err)
		c.warnBroken(mistakes)
		return client, err
	}
	return control.Dial(ctx, cfg.Bridge.DataDir)
}
