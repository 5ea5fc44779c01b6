package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/hiveproof/hiveproof/docs"
	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/scenariofile"
	"github.com/spf13/cobra"
)

func newScenarioCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "scenario", Short: "Check scenario files, and print their schema",
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newScenarioValidateCommand(), &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of scenario files", Args: arguments(cobra.NoArgs),
		Example: "  hiveproof scenario schema > scenario.schema.json",
		RunE: func(*cobra.Command, []string) error {
			_, err := os.Stdout.Write(docs.ScenarioSchema)
			return err
		},
	})
	return cmd
}

func newScenarioValidateCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "validate FILE…",
		Short: "Check scenario files and the definitions that they name, with no lab",
		Long: `Reads scenario files (docs/scenario-files.md) and everything that they name, and
prints all that is wrong with them with file, line and column.

Exit codes: 0 each of them can be run, 2 one cannot.`,
		Example: "  hiveproof scenario validate --topology lab.yml shop.yml",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, files []string) error {
			top := topology.Default()
			if path != "" {
				var err error
				if top, err = topology.Load(path); err != nil {
					return err
				}
			}
			var all []error
			for _, file := range files {
				if err := validate(file, top); err != nil {
					all = append(all, err)
				}
			}
			if err := errors.Join(all...); err != nil {
				return usageError{err}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "topology", "", "topology that the scenarios will run on (default: three hosts and three clients)")
	_ = cmd.MarkFlagFilename("topology", "yml", "yaml")
	return cmd
}

// validate checks one file. Lint's errors in its definitions are errors of it.
func validate(file string, top *topology.Topology) error {
	s, report, err := scenariofile.Load(file, top)
	if report != nil {
		if problems := scenariofile.Problems(report); len(problems) > 0 {
			err = errors.Join(err, problems)
		}
	}
	if err != nil {
		return err
	}
	plan, err := scenarios.NewPlan(scenarios.Selection{Own: []scenarios.Scenario{s}}, scenarios.FactsOf(top))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	skipped := 0
	for _, c := range plan.Scenarios[0].Claims {
		if c.Skip != "" {
			skipped++
		}
	}
	fmt.Printf("✓ %s: %s, %d claims about %d services", file, s.ID, len(plan.Scenarios[0].Claims), len(plan.Scenarios[0].Recipe.Services))
	if skipped > 0 {
		fmt.Printf(", %d of them cannot be judged on this topology or workload", skipped)
	}
	fmt.Println()
	return nil
}
