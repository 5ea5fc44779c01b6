package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/provision/snapshot"
	"github.com/hiveproof/hiveproof/scenarios/supervise"
	"github.com/spf13/cobra"
)

func newSnapshotCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "snapshot", Short: "List, save, restore and remove snapshots of the cluster",
		Long: `A snapshot is a whole cluster as it ran: memory, devices and disks of all hosts,
taken at one instant. The first bring-up saves a "ready" one by itself, from which
every run and every scenario starts; it is made anew when anything that it depends
on changes. save and restore keep states of your own.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSnapshotListCommand(g), newSnapshotSaveCommand(g), newSnapshotRestoreCommand(g), newSnapshotPruneCommand(g))
	return cmd
}

func (g *globals) snapshots() (*snapshot.Store, error) {
	cache, err := g.cache()
	if err != nil {
		return nil, err
	}
	return lab.SnapshotStore(cache)
}

func newSnapshotListCommand(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the stored snapshots", Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			store, err := g.snapshots()
			if err != nil {
				return err
			}
			all, err := store.List()
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(os.Stdout).Encode(all)
			}
			printSnapshots(all)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printSnapshots(all []snapshot.Info) {
	var sum int64
	table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "SNAPSHOT\tHOSTS\tSAVED\tLAST USED\tON DISK\tSTATE")
	for _, s := range all {
		state := "stored"
		switch {
		case s.Problem != "":
			state = s.Problem
		case s.InUse:
			state = "in use"
		}
		const at = "2006-01-02 15:04"
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, strings.Join(s.Hosts, ","), s.Created.Local().Format(at),
			s.Used.Local().Format(at), units.BytesSize(float64(s.BytesOnDisk)), state)
		sum += s.BytesOnDisk
	}
	table.Flush()
	fmt.Printf("%d snapshot(s), %s on disk\n", len(all), units.BytesSize(float64(sum)))
}

// snapshotName checks a name that a user gives to a snapshot.
func snapshotName(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return err
	}
	return snapshot.CheckName(args[0])
}

func newSnapshotSaveCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "save NAME", Short: "Save the lab that is up under a name", Args: arguments(snapshotName),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := g.supervisor(cmd.Context())
			if err != nil {
				return err
			}
			if client == nil {
				return supervise.ErrNone
			}
			if err := client.Save(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Printf("saved %s; the lab goes on\n", args[0])
			return nil
		},
	}
}

func newSnapshotRestoreCommand(g *globals) *cobra.Command {
	f := &labFlags{}
	var quiet bool
	cmd := &cobra.Command{
		Use: "restore NAME", Short: "Bring the lab to a stored state",
		Long: `Brings the lab that is up to a stored state, or starts one from it. Runs against
the lab restore it to this state before each scenario.`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if _, err := f.load(); err != nil {
				return err
			}
			client, _, err := g.supervisor(ctx)
			if err != nil {
				return err
			}
			if client != nil {
				if f.topology != "" {
					return usageError{errors.New("--topology: a lab is up already, with the topology that it was started with")}
				}
				err = client.Restore(ctx, args[0])
			} else {
				f.snapshot = args[0]
				events := sink(quiet, false)
				_, err = startSupervisor(ctx, g, f, events)
				err = errors.Join(err, events.Close())
			}
			if err == nil && !quiet {
				fmt.Printf("the lab is up as it was saved in %s\n", args[0])
			}
			return err
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print only errors")
	return cmd
}

func newSnapshotPruneCommand(g *globals) *cobra.Command {
	var all bool
	var keep int
	cmd := &cobra.Command{
		Use: "prune [NAME…]", Short: "Remove snapshots",
		Long: `Removes the snapshots of the given names. Without names: damaged ones, and the
ready ones except those used last; --all removes those that were saved under a
name as well. What a running lab uses is left alone.`,
		Args: arguments(cobra.ArbitraryArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			if keep < 0 {
				return usageError{fmt.Errorf("--keep %d: want 0 or more", keep)}
			}
			store, err := g.snapshots()
			if err != nil {
				return err
			}
			for _, name := range args {
				err := store.Remove(name)
				if errors.Is(err, fs.ErrNotExist) {
					return usageError{fmt.Errorf("there is no snapshot %s (hiveproof snapshot list shows them)", name)}
				}
				if err != nil {
					return err
				}
				fmt.Println("removed " + name)
			}
			if len(args) > 0 {
				return nil
			}
			removed, err := store.Prune(keep, all)
			var sum int64
			for _, s := range removed {
				fmt.Println("removed " + s.Name)
				sum += s.BytesOnDisk
			}
			if err != nil {
				return err
			}
			fmt.Printf("%s freed\n", units.BytesSize(float64(sum)))
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also remove those that were saved under a name")
	cmd.Flags().IntVar(&keep, "keep", 1, "how many ready snapshots stay")
	return cmd
}
