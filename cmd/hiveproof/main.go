// Command hiveproof proves on real virtual machines that a Docker Swarm site
// built from hive-builder's service patterns behaves as its guide promises.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"github.com/spf13/cobra"
)

// exitUsage is the exit code for bad usage and bad input; nothing was started.
const exitUsage = 2

func main() { os.Exit(run(os.Args[1:])) }

// errSignal is the cause of a context that a signal ended.
var errSignal = errors.New("interrupted")

func run(args []string) int {
	// Where mke2fs is; Debian leaves it out of the path of ordinary users.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		fmt.Fprintln(os.Stderr, "hiveproof: extend PATH: "+err.Error())
		return reports.ExitLab
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		sig := <-signals
		cancel(errSignal)
		fmt.Fprintf(os.Stderr, "\nhiveproof: %s: healing, cleaning up and writing the report (once more to stop at once)\n", sig)
		<-signals
		// The reaper removes what is left when we are gone.
		os.Exit(reports.ExitInterrupted)
	}()

	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	fmt.Fprintln(os.Stderr, "hiveproof: "+strings.ReplaceAll(err.Error(), "\n", "\n  "))
	switch {
	case context.Cause(ctx) == errSignal:
		return reports.ExitInterrupted
	case isUsage(err):
		return exitUsage
	default:
		return reports.ExitLab
	}
}

// exitStatus ends the program with a status and no further message.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func isUsage(err error) bool {
	var (
		usage      usageError
		selection  *scenarios.SelectionError
		top        *topology.Problem
		definition recipe.Problems
	)
	return errors.As(err, &usage) || errors.As(err, &selection) || errors.As(err, &top) || errors.As(err, &definition)
}

// arguments makes cobra's complaints about positional arguments usage errors.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
		}
		return nil
	}
}

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:   "hiveproof",
		Short: "Prove that a Docker Swarm site behaves as its configuration guide promises",
		Long: `hiveproof stands a multi-host Docker Swarm up on real virtual machines, deploys
hive-builder's service patterns on it, probes what clients and containers really
see, and publishes a report that shows the evidence.

Exit codes: 0 all claims passed (skips allowed), 1 a claim failed or could not be
trusted, 2 usage or input, 3 the lab could not do it, 130 interrupted.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          arguments(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// Cobra checks this as well, but later and with an error like any other.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.ValidateFlagGroups(); err != nil {
				return usageError{err}
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	})
	flags := root.PersistentFlags()
	flags.StringVar(&g.stateDir, "state-dir", "", "where labs live while they run (default $XDG_STATE_HOME/hiveproof)")
	flags.StringVar(&g.cacheDir, "cache-dir", "", "where images and snapshots are kept (default $XDG_CACHE_HOME/hiveproof)")
	root.AddCommand(
		newRunCommand(g), newUpCommand(g), newStatusCommand(g), newSSHCommand(g), newDownCommand(g),
		newListCommand(), newLintCommand(), newExplainCommand(), newScenarioCommand(), newImageCommand(g), newSnapshotCommand(g),
		newDoctorCommand(g), newReportCommand(), newGCCommand(g), newVersionCommand(),
		newBenchCommand(g), newReapCommand(), newSuperviseCommand(g),
	)
	return root
}
