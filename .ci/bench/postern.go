package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"postern/bridge/sandbox"
)

// postern is the product as it is installed: the built binary, with the sandbox for sign-in alone.
type postern struct {
	dir, program, file string
	box                *sandbox.Sandbox
	cmd                *exec.Cmd
	addr               string
}

const posternConfig = `
[bridge]
hostname = "bridge.contoso.test"
data_dir = "data"

[log]
to = "file"
file = "postern.log"

[[listener]]
address = "127.0.0.1:0"
auth = "optional"

%s
[[account]]
name = "erp"
provider = "contoso"
mailbox = "erp@contoso.test"
transport = "smtp"
rate_per_minute = 0
concurrency = %d

[[user]]
name = "bench"
networks = ["127.0.0.1/32"]
sender = { mode = "account" }
`

func newPostern(ctx context.Context, dir string, s *sink) (*postern, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &postern{dir: dir, program: filepath.Join(dir, "postern"), file: filepath.Join(dir, "postern.toml")}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", p.program, "./cmd/postern")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build postern: %w", err)
	}
	var err error
	if p.box, err = sandbox.Start(sandbox.Options{Dir: filepath.Join(dir, "box")}); err != nil {
		return nil, err
	}
	provider := p.box.ConfigTOML("contoso", sandbox.PublicClientID)
	for key, value := range map[string]string{"smtp": s.listener.Addr().String(), "ca_file": s.caFile} {
		line := regexp.MustCompile(`(?m)^` + key + ` *=.*$`)
		if !line.MatchString(provider) {
			provider = strings.TrimRight(provider, "\n") + "\n" + key + " = x\n"
		}
		provider = line.ReplaceAllString(provider, key+" = "+strconv.Quote(value))
	}
	return p, os.WriteFile(p.file, fmt.Appendf(nil, posternConfig, provider, connections), 0o600)
}

func (p *postern) name() string    { return "postern" }
func (p *postern) address() string { return p.addr }

// start runs it without a sign-in: what it takes waits.
func (p *postern) start(context.Context) error {
	if err := os.RemoveAll(filepath.Join(p.dir, "data")); err != nil {
		return err
	}
	logFile := filepath.Join(p.dir, "postern.log")
	if err := os.RemoveAll(logFile); err != nil {
		return err
	}
	p.cmd = exec.Command(p.program, "run", "--config", p.file)
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		return err
	}
	started := regexp.MustCompile(`msg="listener started" listener=(\S+)`)
	for range 200 {
		if f, err := os.Open(logFile); err == nil {
			b, _ := io.ReadAll(bufio.NewReader(f))
			f.Close()
			if m := started.FindSubmatch(b); m != nil && strings.Contains(string(b), `msg="service started"`) {
				p.addr = string(m[1])
				return nil
			}
		}
		pause()
	}
	return errors.New("it does not start")
}

// letGo signs the account in.
func (p *postern) letGo(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, p.program, "signin", "erp", "--refresh-token", "-", "--config", p.file)
	cmd.Stdin = strings.NewReader(p.box.RefreshToken("erp@contoso.test").Reveal() + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (p *postern) memory() int64 { return residentSet(p.cmd.Process.Pid) }

func (p *postern) stop() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.cmd.Wait()
}

func (p *postern) close() { p.box.Close() }
