// Command postern is the door: one file per verb, with its flags, its output and its exit status. It knows no mail; it
// calls package bridge. Errors go to standard error as "postern: what happened; what to do", and the exit status is 0
// done, 1 failed, 64 wrong usage, 78 wrong configuration. 2 is left to Go's panics, which a service manager must restart.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"postern/bridge"
	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/service"
)

// Exit statuses; 64 and 78 are EX_USAGE and EX_CONFIG of sysexits.h.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 64
	exitConfig = 78
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// cli is what every verb needs.
type cli struct {
	in       io.Reader
	out, err io.Writer
	config   string // --config
}

// usageError is a command line that cannot be carried out as it stands.
type usageError struct{ error }

func run(args []string, in io.Reader, out, errOut io.Writer) int {
	service.Conceal()
	c := &cli{in: in, out: out, err: errOut}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.Execute()
	var usage usageError
	var mistakes *config.Mistakes
	var status exitWith
	var told *control.Error
	switch {
	case errors.As(err, &status):
		return int(status)
	case err == nil:
		return exitDone
	case errors.As(err, &mistakes):
		fmt.Fprintln(errOut, err)
		return exitConfig
	case errors.Is(err, bridge.ErrNewer):
		fmt.Fprintf(errOut, "postern: %v\n", err)
		return exitConfig // restarting this program does not help
	case errors.As(err, &usage), errors.As(err, &told) && told.Usage:
		fmt.Fprintf(errOut, "postern: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(errOut, "postern: %v\n", err)
	return exitFailed
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "postern",
		Short: "A local SMTP-to-OAuth bridge",
		Long: `Postern takes mail from applications that speak only plain SMTP, and relays it
through Microsoft 365: by Microsoft Graph, or by SMTP with XOAUTH2. It keeps
the sign-in current by itself.

The configuration is the file of --config, else the one that the variable
POSTERN_CONFIG names, else ` + systemConfig() + `.`,
		Example: `  postern demo             see it work, without a tenant
  postern check            is the configuration right?
  postern accounts         is everybody signed in?
  postern run              relay mail (the service runs this)`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(c.err)
			cmd.Help()
			return usageError{errors.New("which verb?")}
		},
	}
	root.PersistentFlags().StringVar(&c.config, "config", "", "configuration `FILE`; default $POSTERN_CONFIG, then\n"+systemConfig())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see: %s --help", err, cmd.CommandPath())}
	})
	root.AddCommand(c.demo(), c.run(), c.reload(), c.serviceVerb(), c.healthVerb(), c.send(), c.sendmail(), c.importVerb(),
		c.check(), c.signin(), c.signout(), c.accounts(), c.secret(), c.queue(), c.backup(), c.vault(), c.passwd(), c.route(),
		c.sandbox(), c.version(), c.docs())
	strictHelp(root)
	c.completions(root)
	return root
}

// strictHelp makes wrong usage of what cobra's own verbs shrug at: help of a verb and completion of a shell that are not
// there.
func strictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Example = "  postern help queue retry"
			cmd.Run, cmd.RunE = nil, func(_ *cobra.Command, args []string) error {
				of, rest, err := root.Find(args)
				if err != nil || len(rest) > 0 {
					return usageError{fmt.Errorf("%.60q is no verb; see: postern help", strings.Join(args, " "))}
				}
				of.InitDefaultHelpFlag() // so that it is among the flags
				return of.Help()
			}
		case "completion":
			cmd.Args, cmd.RunE = verbArgs, func(cmd *cobra.Command, _ []string) error { return needVerb(cmd) }
		}
	}
}

// defaultConfig is POSTERN_CONFIG, else the platform's place.
func defaultConfig() string {
	if path := os.Getenv("POSTERN_CONFIG"); path != "" {
		return path
	}
	return systemConfig()
}

// systemConfig is the platform's place.
func systemConfig() string {
	if runtime.GOOS == "windows" {
		return os.Getenv("ProgramData") + `\Postern\postern.toml`
	}
	return "/etc/postern/postern.toml"
}

// load reads the configuration and prints its warnings.
func (c *cli) load() (*config.Config, error) {
	if c.config == "" {
		c.config = defaultConfig()
	}
	if fi, err := os.Stat(c.config); err == nil && fi.IsDir() {
		return nil, &config.Mistakes{List: []config.Mistake{{File: c.config, Text: "this is a folder; name the file in it: --config FILE"}}}
	}
	cfg, err := config.Load(c.config)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &config.Mistakes{List: []config.Mistake{{File: c.config,
			Text: "there is no such file; write one (config.example.toml shows every key) or name it: --config FILE"}}}
	}
	return cfg, err
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown argument %.60q; see: %s --help", args[0], cmd.CommandPath())}
	}
	return nil
}

// verbArgs refuses a verb that the group has not.
func verbArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown argument %.60q; %w", args[0], needVerb(cmd))}
	}
	return nil
}

// exactArgs asks for one argument per name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageError{fmt.Errorf("%s is missing; see: %s --help", names[len(args)], cmd.CommandPath())}
		case len(args) > len(names):
			return usageError{fmt.Errorf("unknown argument %.60q; see: %s --help", args[len(names)], cmd.CommandPath())}
		}
		return nil
	}
}

// version is set by the release build: -ldflags "-X main.release=1.0.0".
var release = "development"

func (c *cli) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  postern version",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			revision := ""
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" && len(s.Value) >= 12 {
						revision = " " + s.Value[:12]
					}
				}
			}
			_, err := fmt.Fprintf(c.out, "postern %s%s %s/%s %s\n", release, revision, runtime.GOOS, runtime.GOARCH, runtime.Version())
			return err
		},
	}
}
