package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios/session"
	"github.com/spf13/cobra"
)

// The ways to a ready cluster that bench measures.
const (
	benchCold    = "cold"
	benchDisk    = "disk"
	benchInPlace = "in-place"
)

// benchResult is what bench cluster found, in seconds.
type benchResult struct {
	Mode   string               `json:"mode"`
	Runs   []float64            `json:"runs"`
	Median float64              `json:"median"`
	Min    float64              `json:"min"`
	Max    float64              `json:"max"`
	Phases map[string][]float64 `json:"phases,omitempty"`
}

func newBenchCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure this machine", Args: arguments(cobra.NoArgs)}
	cmd.AddCommand(newBenchClusterCommand(g))
	return cmd
}

func newBenchClusterCommand(g *globals) *cobra.Command {
	f := &labFlags{}
	var runs int
	var modes []string
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Measure how long a ready cluster takes",
		Long: `Measures the time until every engine answers and all nodes are ready:
  cold      hosts booted from the cached node image, swarm formed
  disk      from the ready snapshot on disk, in new processes
  in-place  a running lab brought back to its snapshot, as before each scenario`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if runs < 1 {
				return usageError{fmt.Errorf("--runs %d: want at least 1", runs)}
			}
			for _, mode := range modes {
				if !slices.Contains([]string{benchCold, benchDisk, benchInPlace}, mode) {
					return usageError{fmt.Errorf("--mode %q: want %s, %s or %s", mode, benchCold, benchDisk, benchInPlace)}
				}
			}
			top, err := f.load()
			if err != nil {
				return err
			}
			dir, unlock, err := g.own()
			if err != nil {
				return err
			}
			defer unlock()
			events := sink(quiet || asJSON, false)
			defer func() { err = errors.Join(err, events.Close()) }()
			observe := session.LabEvents(events)
			if asJSON {
				observe = nil
			}
			opts, err := g.labOptions(f, top, dir, observe)
			if err != nil {
				return err
			}
			var results []benchResult
			for _, mode := range modes {
				r, err := benchCluster(cmd.Context(), opts, mode, runs)
				if err != nil {
					return err
				}
				results = append(results, *r)
			}
			if asJSON {
				return json.NewEncoder(os.Stdout).Encode(results)
			}
			table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(table, "MODE\tMEDIAN\tMIN\tMAX\tRUNS")
			for _, r := range results {
				var all []string
				for _, s := range r.Runs {
					all = append(all, fmt.Sprintf("%.1f", s))
				}
				fmt.Fprintf(table, "%s\t%.1fs\t%.1fs\t%.1fs\t%s\n", r.Mode, r.Median, r.Min, r.Max, strings.Join(all, " "))
			}
			return table.Flush()
		},
	}
	f.register(cmd)
	cmd.Flags().IntVarP(&runs, "runs", "n", 5, "how often each is measured")
	cmd.Flags().StringSliceVar(&modes, "mode", []string{benchCold, benchDisk, benchInPlace}, "what to measure")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print only the figures")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print only the figures, as JSON")
	cmd.MarkFlagsMutuallyExclusive("quiet", "json")
	return cmd
}

// benchCluster measures one way. What has to be there first, an image or a
// snapshot, is made before and does not count.
func benchCluster(ctx context.Context, opts lab.Options, mode string, runs int) (_ *benchResult, err error) {
	up := func(cold bool) (*lab.Lab, error) {
		o := opts
		o.Cold, o.ID = cold, "bench-"+reports.NewRunID(time.Now())
		return lab.Up(ctx, o)
	}
	r := &benchResult{Mode: mode, Phases: map[string][]float64{}}
	if mode == benchCold {
		if _, err := lab.BuildImage(ctx, opts); err != nil {
			return nil, err
		}
		for range runs {
			l, err := up(true)
			if err != nil {
				return nil, err
			}
			r.add(l.Timings)
			if err := l.Close(); err != nil {
				return nil, err
			}
		}
		return r.done(), nil
	}
	l, err := up(false)
	if err != nil {
		return nil, err
	}
	if mode == benchInPlace {
		defer func() { err = errors.Join(err, l.Close()) }()
		for range runs {
			started := time.Now()
			if err := l.Restore(ctx); err != nil {
				return nil, err
			}
			r.Runs = append(r.Runs, time.Since(started).Seconds())
		}
		return r.done(), nil
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	for range runs {
		if l, err = up(false); err != nil {
			return nil, err
		}
		r.add(l.Timings)
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	return r.done(), nil
}

func (r *benchResult) add(timings map[string]float64) {
	for phase, seconds := range timings {
		if phase == "ready" {
			r.Runs = append(r.Runs, seconds)
		} else {
			r.Phases[phase] = append(r.Phases[phase], seconds)
		}
	}
}

// done computes the figures; the median of an even number is the lower of the two.
func (r *benchResult) done() *benchResult {
	sorted := slices.Sorted(slices.Values(r.Runs))
	r.Min, r.Max, r.Median = sorted[0], sorted[len(sorted)-1], sorted[(len(sorted)-1)/2]
	return r
}
