package main

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"github.com/hiveproof/hiveproof/scenarios/recipe/lint"
	"github.com/spf13/cobra"
)

// explanation is what explain says about one service.
type explanation struct {
	File string `json:"file"`
	lint.Axes
	Claims  []string    `json:"claims"`
	Without []notJudged `json:"not_derived"`
}

type notJudged struct {
	Claim string `json:"claim"`
	Why   string `json:"why"`
}

func newExplainCommand() *cobra.Command {
	var (
		site   siteFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "explain FILE|DIR…",
		Short: "Show the axes of each service, and which claims it will be judged by and why",
		Long: `Places each service of the definitions on the guide's three axes, and lists the
claims that are derived from its place and why the others are not. What is wrong with
the definitions is for lint to say.`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			opts, err := site.options()
			if err != nil {
				return err
			}
			report, err := lintPaths(args, opts)
			if err != nil {
				return err
			}
			all, err := explain(report)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(os.Stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(map[string]any{"services": all, "hosts": report.Hosts})
			}
			return printExplanations(all, len(report.Files) > 1)
		},
	}
	site.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// explain derives the claims of every service. A file that the parser refuses is
// an error: what it says about its services cannot be relied upon.
func explain(report *lint.Report) ([]explanation, error) {
	var out []explanation
	for _, f := range report.Files {
		if problems := f.Problems(); len(problems) > 0 {
			return nil, problems
		}
		for _, axes := range f.Services {
			e := explanation{File: f.Path, Axes: axes, Claims: []string{}}
			place := scenarios.Place{Axes: recipe.Axes{
				Balance: recipe.Balance(axes.Balance), Volume: recipe.VolumePattern(axes.Volume), Publish: recipe.Publish(axes.Publish),
			}, InternalPorts: axes.InternalPorts}
			for _, c := range scenarios.Claims() {
				if why := c.WhyNot(place); why != "" {
					e.Without = append(e.Without, notJudged{c.ID, why})
				} else {
					e.Claims = append(e.Claims, c.ID)
				}
			}
			out = append(out, e)
		}
	}
	return out, nil
}

func printExplanations(all []explanation, files bool) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	name := func(e explanation) string {
		if files {
			return e.File + ": " + e.Name
		}
		return e.Name
	}
	fmt.Fprintln(table, "SERVICE\tBALANCE\tVOLUME\tPUBLISH\tCLAIMS")
	for _, e := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\n", name(e), e.Balance, e.Volume, e.Publish, len(e.Claims))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, e := range all {
		fmt.Printf("\n%s\n", name(e))
		for _, id := range e.Claims {
			fmt.Fprintf(table, "  ✓ %s\tderived\n", id)
		}
		for _, n := range e.Without {
			fmt.Fprintf(table, "  – %s\t%s\n", n.Claim, n.Why)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}
