package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/provision/state"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios/supervise"
	"github.com/spf13/cobra"
)

func newUpCommand(g *globals) *cobra.Command {
	f := &labFlags{}
	var quiet, asJSON bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring a lab up and leave it running",
		Long: `Starts a supervisor process that owns the lab's machines and network, and returns
when the swarm is ready. hiveproof run, ssh, status and down use it. If the
supervisor ends, however it ends, so do its machines.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if _, err := f.load(); err != nil {
				return err
			}
			client, status, err := g.supervisor(ctx)
			if err != nil {
				return err
			}
			events := sink(quiet, asJSON)
			switch {
			case client == nil:
				_, err = startSupervisor(ctx, g, f, events)
			case f.topology != "" || f.snapshot != "":
				err = usageError{fmt.Errorf("a lab is up already (pid %d): take it down first (hiveproof down)", status.PID)}
			case status.Phase != supervise.Ready:
				err = client.WaitReady(ctx, events)
			}
			if err = errors.Join(err, events.Close()); err != nil {
				return err
			}
			if !quiet && !asJSON {
				fmt.Println("the lab is up: hiveproof status shows it, hiveproof run uses it, hiveproof down ends it")
			}
			return nil
		},
	}
	f.register(cmd)
	f.registerSnapshot(cmd)
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print only errors")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print events as JSON lines")
	cmd.MarkFlagsMutuallyExclusive("quiet", "json")
	return cmd
}

// superviseCommand is the hidden sub-command that a supervisor process runs.
const superviseCommand = "internal-supervise"

// supervisorLog is the supervisor's own output, in the state directory.
const supervisorLog = "supervisor.log"

// startSupervisor starts a supervisor process and waits until its lab is ready.
// If ctx ends before that, the supervisor is ended as well.
func startSupervisor(ctx context.Context, g *globals, f *labFlags, events reports.Sink) (*supervise.Client, error) {
	dir, err := g.state()
	if err != nil {
		return nil, err
	}
	// Taken and given back: a holder is told of now, and not in the supervisor's log.
	unlock, err := dir.Lock()
	if err != nil {
		return nil, err
	}
	unlock()
	cache, err := g.cache()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	logPath := filepath.Join(dir.Path(), supervisorLog)
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	defer log.Close()
	args := append([]string{superviseCommand, "--state-dir", dir.Path(), "--cache-dir", cache}, f.args()...)
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = log, log
	// Its own session: it outlives this terminal and does not get its Ctrl-C.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}()
	client, err := awaitSocket(ctx, dir.SocketPath(), ended, logPath)
	if err == nil {
		err = client.WaitReady(ctx, events)
	}
	if err != nil && ctx.Err() != nil {
		// It takes its machines down; we wait for that, as the user should be able to start anew.
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}
	return client, err
}

// awaitSocket connects to a supervisor that has just been started.
func awaitSocket(ctx context.Context, socket string, ended <-chan struct{}, logPath string) (*supervise.Client, error) {
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		client, _, err := supervise.Connect(limit, socket)
		if err == nil {
			return client, nil
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(logPath) // the error says that it ended; the log only says why
			return nil, fmt.Errorf("the supervisor ended at once: %s", strings.TrimSpace(string(text)))
		case <-limit.Done():
			return nil, fmt.Errorf("wait for the supervisor (its log is %s): %w", logPath, context.Cause(limit))
		case <-tick.C:
		}
	}
}

func newSuperviseCommand(g *globals) *cobra.Command {
	f := &labFlags{}
	cmd := &cobra.Command{
		Use: superviseCommand, Hidden: true, Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			top, err := f.load()
			if err != nil {
				return err
			}
			dir, unlock, err := g.own()
			if err != nil {
				return err
			}
			defer unlock()
			return supervise.Serve(cmd.Context(), dir.SocketPath(), programVersion(),
				func(ctx context.Context, observe func(lab.Event)) (*lab.Lab, error) {
					opts, err := g.labOptions(f, top, dir, observe)
					if err != nil {
						return nil, err
					}
					opts.Snapshot = f.snapshot
					opts.ID = "up-" + reports.NewRunID(time.Now())
					return lab.Up(ctx, opts)
				})
		},
	}
	f.register(cmd)
	f.registerSnapshot(cmd)
	return cmd
}

func newReapCommand() *cobra.Command {
	return &cobra.Command{
		Use: state.ReaperCommand + " LEDGER", Hidden: true, Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			// Signals to the owner are not for the reaper: it ends with its owner.
			return state.Reap(context.WithoutCancel(cmd.Context()), os.Stdin, args[0])
		},
	}
}

func newStatusCommand(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the lab that is up", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, st, err := g.supervisor(cmd.Context())
			if err != nil {
				return err
			}
			if client == nil {
				if asJSON {
					fmt.Println("null")
					return nil
				}
				fmt.Println(supervise.ErrNone)
				return nil
			}
			st.PrivateKey = nil
			if asJSON {
				return json.NewEncoder(os.Stdout).Encode(st)
			}
			printStatus(st)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printStatus(st *supervise.Status) {
	fmt.Printf("lab: %s, up %s, supervisor pid %d", st.Phase, time.Since(st.Started).Round(time.Second), st.PID)
	if st.Accel != "" {
		fmt.Printf(", %s", st.Accel)
	}
	if st.Running != "" {
		fmt.Printf(", busy with %s", st.Running)
	}
	fmt.Println()
	if st.Error != "" {
		fmt.Println(st.Error)
	}
	if len(st.Hosts) == 0 {
		return
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "HOST\tADDRESS\tROLE\tUP\tMEMORY\tSWARM")
	for _, h := range st.Hosts {
		role := h.Role
		if h.Leader {
			role += " (leader)"
		}
		up := "off"
		if h.UptimeS > 0 || h.UsedMiB > 0 {
			up = (time.Duration(h.UptimeS) * time.Second).String()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d of %d MiB\t%s\n", h.Name, h.Address, role, up, h.UsedMiB, h.MemoryMiB, strings.ReplaceAll(h.Swarm, "\n", " "))
	}
	table.Flush()
	if st.Snapshot == "" {
		fmt.Println("no snapshot to restore from")
		return
	}
	fmt.Printf("restored from: %s\n", st.Snapshot)
	printSnapshots(st.Snapshots)
}

func newDownCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Take the lab down", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, _, err := g.supervisor(cmd.Context())
			if err != nil {
				return err
			}
			if client == nil {
				fmt.Println(supervise.ErrNone)
				return nil
			}
			if err := client.Down(cmd.Context()); err != nil {
				return err
			}
			return waitGone(cmd.Context(), g)
		},
	}
}

// waitGone waits until the supervisor has let the state directory go: until
// then it may still be removing its machines.
func waitGone(ctx context.Context, g *globals) error {
	dir, err := g.state()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the supervisor did not end within a minute"))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		unlock, err := dir.Lock()
		if err == nil {
			unlock()
			return nil
		}
		var busy *state.BusyError
		if !errors.As(err, &busy) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the lab to be down: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}
