package main

import (
	"strings"

	"github.com/spf13/cobra"

	"postern/bridge/config"
)

// names returns what a key on the command line may be named, of a configuration without mistakes.
type names func(*config.Config) []string

func accountNames(cfg *config.Config) (list []string) {
	for _, a := range cfg.Accounts {
		list = append(list, a.Name)
	}
	return list
}

func userNames(cfg *config.Config) (list []string) {
	for _, u := range cfg.Users {
		list = append(list, u.Name)
	}
	return list
}

func secretNames(cfg *config.Config) (list []string) {
	for _, p := range cfg.Providers {
		if p.ClientSecret.Kind == "vault" {
			list = append(list, p.ClientSecret.Name)
		}
	}
	return list
}

// completions tells the shells what may stand where; a file's name stands nowhere else than where one is asked for.
func (c *cli) completions(root *cobra.Command) {
	arguments := map[string]names{"signin": accountNames, "signout": accountNames, "secret set": secretNames, "secret remove": secretNames}
	flags := map[string]names{"account": accountNames, "user": userNames}
	words := map[string][]string{"state": queueStates, "format": healthFormats, "policy": {"today"}, "refresh-token": {"-"}, "redirect": {"nativeclient"}}
	files := []string{"FILE", "FOLDER"}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), root.Name()+" ")
		if of := arguments[path]; of != nil {
			cmd.ValidArgsFunction = c.complete(of)
		} else if !strings.Contains(cmd.Use, files[0]) && !strings.Contains(cmd.Use, files[1]) && cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		for name, of := range flags {
			if cmd.Flags().Lookup(name) != nil {
				_ = cmd.RegisterFlagCompletionFunc(name, c.complete(of)) // it is there, once
			}
		}
		for name, list := range words {
			if cmd.Flags().Lookup(name) != nil {
				_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// complete offers the names; none where the configuration cannot be read.
func (c *cli) complete(of names) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		cfg, err := c.load()
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return of(cfg), cobra.ShellCompDirectiveNoFileComp
	}
}
