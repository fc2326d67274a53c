package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/bridge"
	"postern/bridge/config"
	"postern/bridge/control"
)

// The exit statuses of health are those of monitoring plugins.
const (
	healthOK       = 0
	healthWarning  = 1
	healthCritical = 2
	healthUnknown  = 3
)

// healthFormats are what --format takes.
var healthFormats = []string{"text", "nagios", "prtg", "json"}

// healthPatience is shorter than what programs for monitoring wait by default.
const healthPatience = 8 * time.Second

// finding is one thing that health has to say; the worst is said.
type finding struct {
	Status int    `json:"status"` // 0 ok, 1 warning, 2 critical, 3 unknown
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// gravity orders findings: what is known to be broken is worse than what nobody can tell.
func (f finding) gravity() int {
	if f.Status == healthCritical {
		return healthUnknown + 1
	}
	return f.Status
}

// exitWith ends the program with that status; what there is to say has been said.
type exitWith int

func (e exitWith) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func (c *cli) healthVerb() *cobra.Command {
	format := "text"
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Say in one line what is worst, and what to do",
		Long: `Says in one line what is worst with Postern, and what to do. Exit status 0 ok,
1 warning, 2 critical, 3 unknown; so Nagios, Icinga, Checkmk, PRTG and Zabbix
can run it as it is. A wrong configuration is unknown, also while the service
runs on with the former one, unless something else is critical.`,
		Example: `  postern health
  postern health --format nagios
  postern health --format prtg`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(healthFormats, format) {
				return usageError{fmt.Errorf("unknown format %.20q: text, nagios, prtg or json", format)}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthPatience)
			defer cancel()
			h, broken, err := c.health(ctx)
			var list []finding
			if err != nil {
				list = []finding{unlooked(err)}
			} else {
				list = judge(h, broken, time.Now())
			}
			if err := c.printHealth(format, list, h); err != nil {
				return err
			}
			if list[0].Status != healthOK {
				return exitWith(list[0].Status)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", format, "text, nagios, prtg or json")
	return cmd
}

// unlooked is the answer where nobody could look.
func unlooked(err error) finding {
	var mistakes *config.Mistakes
	text, _, _ := strings.Cut(err.Error(), "\n")
	switch {
	case errors.As(err, &mistakes):
		return finding{healthUnknown, "the configuration has mistakes: " + mistakes.List[0].String(), "run: postern check"}
	case errors.Is(err, control.ErrSilent):
		return finding{healthCritical, text, ""}
	case errors.Is(err, context.DeadlineExceeded):
		return finding{healthCritical, fmt.Sprintf("postern has not said within %d seconds how it is", healthPatience/time.Second), "run: postern service restart"}
	case errors.Is(err, bridge.ErrNoQueue):
		return finding{healthCritical, "postern is not running: " + text, ""}
	}
	return finding{healthUnknown, text, ""}
}

// judge returns everything there is to say, the worst first; at least one finding. broken is what is wrong with the file,
// nil for a good one.
func judge(h control.Health, broken *config.Mistakes, now time.Time) []finding {
	var list []finding
	add := func(status int, text, remedy string) { list = append(list, finding{status, text, remedy}) }
	if broken != nil {
		add(healthUnknown, "the configuration has mistakes, and the next start fails: "+broken.List[0].String(), "run: postern check")
	}
	if !h.Running {
		add(healthCritical, "postern is not running", "run: postern service start")
	}
	if h.LeastDisk > 0 && h.FreeDisk < h.LeastDisk {
		add(healthCritical, fmt.Sprintf("the disk of data_dir has %d MB left of the %d that must be free (min_free_disk), and mail is refused",
			h.FreeDisk/1_000_000, h.LeastDisk/1_000_000), "make room on that disk")
	} else if h.LeastDisk > 0 && h.FreeDisk < 2*h.LeastDisk {
		add(healthWarning, fmt.Sprintf("the disk of data_dir has %d MB left", h.FreeDisk/1_000_000), "make room on that disk")
	}
	for _, a := range h.Accounts {
		list = append(list, judgeAccount(a, now)...)
	}
	if n := h.Queue["held"]; n > 0 {
		add(healthWarning, fmt.Sprintf("%d %s held", n, plural(n, "message")), "run: postern queue list --state held")
	}
	if n := h.Kept; n > 0 { // of the others nobody can make anything
		add(healthWarning, fmt.Sprintf("%d %s failed", n, plural(n, "message")),
			"see: postern queue list --state failed; then run: postern queue retry, or queue drop")
	}
	if n := h.Queue["in-doubt"]; n > 0 {
		add(healthWarning, fmt.Sprintf("%d %s in doubt", n, plural(n, "message")), "postern looks by itself; see: postern queue list --state in-doubt")
	}
	for _, e := range h.Errors {
		if e.Account == "" && e.QueueID == "" && now.Sub(e.At) < time.Hour {
			add(healthWarning, incidentLine(e), e.Remedy)
			break
		}
	}
	slices.SortStableFunc(list, func(a, b finding) int { return b.gravity() - a.gravity() })
	if len(list) == 0 {
		add(healthOK, fmt.Sprintf("%d %s in order, %s", len(h.Accounts), plural(len(h.Accounts), "account"), queueLine(h.Queue)), "")
	}
	return list
}

func judgeAccount(a control.Account, now time.Time) (list []finding) {
	up, stopped := 0, 0
	var worst control.Transport
	for _, t := range a.Transports {
		switch {
		case works(t):
			up++
		case t.State == "parked" || t.State == "up":
			stopped++
			if worst.State != "parked" {
				worst = t
			}
		default:
			if worst.Name == "" {
				worst = t
			}
		}
	}
	status := healthWarning
	if up == 0 && stopped > 0 {
		status = healthCritical
	}
	waiting := ""
	if a.Waiting > 0 {
		waiting = fmt.Sprintf(", %d %s", a.Waiting, plural(a.Waiting, "message")+" waiting")
	}
	switch {
	case a.Trouble != "":
		list = append(list, finding{healthCritical, "account " + a.Name + ": " + a.Trouble + waiting, a.Remedy})
	case worst.State == "up":
		list = append(list, finding{status, fmt.Sprintf("account %s: %s has no token: %s%s", a.Name, worst.Name, worst.TokenTrouble, waiting), worst.Remedy})
	case worst.Name != "":
		list = append(list, finding{status, fmt.Sprintf("account %s: %s is %s: %s%s", a.Name, worst.Name, worst.State, worst.Why, waiting), worst.Remedy})
	}
	for _, l := range a.Lacks {
		list = append(list, finding{healthWarning, fmt.Sprintf("account %s may not send as %s: that mail waits, and fails when it is too old", a.Name, l.From), l.Remedy})
	}
	for _, e := range a.Expires {
		switch {
		case !e.Near:
		case !now.Before(e.At):
			list = append(list, finding{healthCritical, "account " + a.Name + ": " + expiryLine(e, now), e.Remedy})
		default:
			list = append(list, finding{healthWarning, "account " + a.Name + ": " + expiryLine(e, now), e.Remedy})
		}
	}
	return list
}

// works reports whether mail can leave by t: nothing stops it, and there is a token. A refresh ahead of time that fails is
// no trouble yet: the token in use goes on.
func works(t control.Transport) bool {
	return t.State == "up" && (t.TokenTrouble == "" || time.Now().Before(t.TokenExpires))
}

var healthWords = []string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}

func (c *cli) printHealth(format string, list []finding, h control.Health) error {
	worst := list[0]
	line := worst.Text
	if worst.Remedy != "" {
		line += "; " + worst.Remedy
	}
	waiting := h.Queue["queued"] + h.Queue["sending"] + h.Queue["deferred"]
	switch format {
	case "nagios":
		// The bar begins the performance data.
		_, err := fmt.Fprintf(c.out, "POSTERN %s - %s | waiting=%d held=%d failed=%d in_doubt=%d\n", healthWords[worst.Status],
			strings.ReplaceAll(line, "|", "/"), waiting, h.Queue["held"], h.Queue["failed"], h.Queue["in-doubt"])
		return err
	case "prtg":
		return c.printPRTG(worst, line, waiting, h)
	case "json":
		return c.printJSON(struct {
			Status   string         `json:"status"`
			Findings []finding      `json:"findings"`
			Health   control.Health `json:"health"`
		}{strings.ToLower(healthWords[worst.Status]), list, h}, nil)
	}
	_, err := fmt.Fprintf(c.out, "%s: %s\n", strings.ToLower(healthWords[worst.Status]), line)
	return err
}

// printPRTG prints what PRTG's "EXE/Script Advanced" sensor reads: channels, and an error where the sensor is to be red.
func (c *cli) printPRTG(worst finding, line string, waiting int, h control.Health) error {
	type channel struct {
		Channel string `json:"channel"`
		Value   int    `json:"value"`
		Warning int    `json:"warning,omitempty"` // 1: the channel is in its warning state
	}
	type answer struct {
		Error  int       `json:"error,omitempty"`
		Text   string    `json:"text"`
		Result []channel `json:"result,omitempty"`
	}
	a := answer{Text: line}
	if worst.Status >= healthCritical {
		a.Error = 1 // PRTG takes no channels then
	} else {
		a.Result = []channel{{"status", worst.Status, worst.Status}, {"waiting", waiting, 0}, {"held", h.Queue["held"], 0},
			{"failed", h.Queue["failed"], 0}, {"in doubt", h.Queue["in-doubt"], 0}}
	}
	b, err := json.Marshal(map[string]answer{"prtg": a})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", b)
	return err
}
