package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/session"
	"github.com/hiveproof/hiveproof/scenarios/supervise"
	"github.com/spf13/cobra"
)

const defaultOutput = "hiveproof-results"

type runFlags struct {
	lab         labFlags
	selection   scenarios.Selection
	own         ownFlags
	keep        bool
	noRestore   bool
	output      string
	quiet, json bool
	timeout     time.Duration
}

func newRunCommand(g *globals) *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Deploy the guide's recipes or one's own definitions, judge them and write the report",
		Long: `Deploys the selected scenarios one after another on the lab, judges each by its
claims and writes the report. If a lab is up (hiveproof up) it is used, else one is
brought up for the run and taken down afterwards. Each scenario starts from the
same restored cluster.

With --services or --scenario-file, one's own definitions are run in the place of the
guide's. They are linted first, and errors end the run before anything is started.`,
		Example: `  hiveproof run
  hiveproof run --scenario 'mesh' --claim 'source'
  hiveproof run --scenario stateless-mesh --control one-to-one/source-kept   # must fail
  hiveproof run --services inventory/ --vars inventory/group_vars/services.yml --stage staging
  hiveproof run --scenario-file shop.yml`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.own.check(cmd); err != nil {
				return err
			}
			return f.run(cmd.Context(), g)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.selection.Scenario, "scenario", "", "run the scenarios whose ID matches this regular expression; all is every one")
	flags.StringVar(&f.selection.Claim, "claim", "", "judge by the claims whose ID matches this regular expression")
	flags.StringSliceVar(&f.selection.Controls, "control", nil, "judge by this claim although it does not apply (a negative control, expected to fail)")
	flags.StringVar(&f.selection.Mutation, "mutate", "", "break the scenario that this mutation is of on purpose and judge by what it breaks, which must fail (docs/controls.md)")
	f.own.register(cmd)
	flags.Uint64Var(&f.selection.Shuffle, "shuffle", 0, "run the scenarios in the random order of this seed")
	flags.BoolVar(&f.noRestore, "no-restore", false, "do not restore the cluster before each scenario: remove the services of the one before")
	flags.BoolVar(&f.keep, "keep", false, "leave the lab running afterwards")
	flags.StringVar(&f.output, "output", defaultOutput, "directory that the run's own directory is made in")
	flags.BoolVar(&f.quiet, "quiet", false, "print only errors, what did not pass, and the report's path")
	flags.BoolVar(&f.json, "json", false, "print events as JSON lines")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the run after this time, such as 30m; what was judged is reported")
	cmd.MarkFlagsMutuallyExclusive("quiet", "json")
	f.lab.register(cmd)
	complete(cmd, "scenario", func() (all []string) {
		for _, s := range scenarios.All() {
			all = append(all, s.ID+"\t"+s.English)
		}
		return all
	})
	complete(cmd, "mutate", func() (all []string) {
		for _, m := range scenarios.Mutations() {
			all = append(all, m.ID+"\t"+m.Scenario+": "+m.Text)
		}
		return all
	})
	for _, flag := range []string{"claim", "control"} {
		complete(cmd, flag, func() (all []string) {
			for _, c := range scenarios.Claims() {
				all = append(all, c.ID+"\t"+c.Text)
			}
			return all
		})
	}
	return cmd
}

func complete(cmd *cobra.Command, flag string, values func() []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values(), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag does not exist: a mistake in this program
	}
}

// sink is where a command's events go: standard output for a person or a
// program to follow.
func sink(quiet, json bool) reports.Console {
	switch {
	case json:
		return nopCloser{reports.NewJSON(os.Stdout)}
	case quiet:
		return nopCloser{reports.NewQuiet(os.Stdout)}
	default:
		return reports.NewConsole(os.Stdout)
	}
}

type nopCloser struct{ reports.Sink }

func (nopCloser) Close() error { return nil }

func (f *runFlags) run(ctx context.Context, g *globals) error {
	if f.timeout < 0 {
		return usageError{fmt.Errorf("--timeout %s: want a positive duration such as 30m", f.timeout)}
	}
	top, err := f.lab.load()
	if err != nil {
		return err
	}
	findings := os.Stdout
	if f.quiet || f.json {
		findings = os.Stderr
	}
	if err := f.own.selectInto(&f.selection, top, findings); err != nil {
		return err
	}
	if f.own.pull {
		cache, err := g.cache()
		if err != nil {
			return err
		}
		f.selection.Pull = filepath.Join(cache, "pulled")
	}
	plan, err := scenarios.NewPlan(f.selection, scenarios.FactsOf(top))
	if err != nil {
		return err
	}
	output, err := filepath.Abs(f.output)
	if err != nil {
		return usageError{fmt.Errorf("--output: %w", err)}
	}
	req := session.Request{
		Selection: f.selection, Output: output, Timeout: f.timeout, NoRestore: f.noRestore,
		Command: append([]string{"hiveproof"}, os.Args[1:]...), Version: programVersion(),
	}
	events := sink(f.quiet, f.json)
	report, err := f.start(ctx, g, top, plan, req, events)
	err = errors.Join(err, events.Close())
	if report == nil {
		return err
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hiveproof: "+err.Error())
	}
	if code := report.Result.ExitCode(); code != 0 {
		return exitStatus(code)
	}
	if err != nil { // everything passed, but not everything could be recorded or cleaned
		return exitStatus(reports.ExitLab)
	}
	return nil
}

// start runs the request on the lab that is up, or on one of this process's own.
func (f *runFlags) start(ctx context.Context, g *globals, top *topology.Topology, plan *scenarios.Plan, req session.Request, events reports.Sink) (*session.Report, error) {
	client, status, err := g.supervisor(ctx)
	if err != nil {
		return nil, err
	}
	if client == nil && f.keep {
		if client, err = startSupervisor(ctx, g, &f.lab, events); err != nil {
			return nil, err
		}
	}
	if client != nil {
		if status != nil && f.lab.topology != "" {
			return nil, usageError{errors.New("--topology: a lab is up already, with the topology that it was started with; take it down first (hiveproof down)")}
		}
		if status != nil && status.Phase != supervise.Ready { // it is still coming up, or failed to
			if err := client.WaitReady(ctx, events); err != nil {
				return nil, err
			}
		}
		return client.Run(ctx, req, events)
	}
	dir, unlock, err := g.own()
	if err != nil {
		return nil, err
	}
	defer unlock()
	opts, err := g.labOptions(&f.lab, top, dir, session.LabEvents(events))
	if err != nil {
		return nil, err
	}
	return session.Run(ctx, req, plan, events, func(ctx context.Context, id string) (*lab.Lab, bool, error) {
		opts.ID, opts.NoEdge = id, !plan.NeedsEdge()
		l, err := lab.Up(ctx, opts)
		return l, true, err
	}, (*lab.Lab).Close)
}
