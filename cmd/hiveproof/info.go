package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/hiveproof/hiveproof/provision/image"
	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/provision/software"
	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/session"
	"github.com/spf13/cobra"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: arguments(cobra.NoArgs),
		Run: func(*cobra.Command, []string) {
			fmt.Printf("hiveproof %s %s/%s %s\n", programVersion(), runtime.GOOS, runtime.GOARCH, runtime.Version())
		},
	}
}

func newListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the scenarios and the claims", Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			plan, err := scenarios.NewPlan(scenarios.Selection{}, scenarios.FactsOf(topology.Default()))
			if err != nil {
				return err
			}
			if asJSON {
				return listJSON(plan)
			}
			table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(table, "SCENARIO\tGUIDE\tCLAIMS")
			for _, p := range plan.Scenarios {
				fmt.Fprintf(table, "%s\t%s\t%d\n", p.Scenario.ID, p.Scenario.Title, len(p.Claims))
			}
			fmt.Fprintln(table, "\t\t")
			fmt.Fprintln(table, "CLAIM\tAPPLIES TO\tTHE GUIDE SAYS")
			for _, c := range scenarios.Claims() {
				fmt.Fprintf(table, "%s\t%s\t%s\n", c.ID, c.AppliesTo(), c.Text)
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listJSON(plan *scenarios.Plan) error {
	type claim struct {
		ID      string `json:"id"`
		Text    string `json:"text"`
		Guide   string `json:"guide"`
		Applies string `json:"applies_to"`
	}
	type scenario struct {
		ID     string              `json:"id"`
		Title  string              `json:"title"`
		Recipe string              `json:"recipe"`
		Claims map[string][]string `json:"claims"` // by service
	}
	out := struct {
		Scenarios []scenario `json:"scenarios"`
		Claims    []claim    `json:"claims"`
	}{}
	for _, p := range plan.Scenarios {
		s := scenario{ID: p.Scenario.ID, Title: p.Scenario.Title, Recipe: p.Scenario.Recipe, Claims: map[string][]string{}}
		for _, c := range p.Claims {
			s.Claims[c.Service] = append(s.Claims[c.Service], c.Claim.ID)
		}
		out.Scenarios = append(out.Scenarios, s)
	}
	for _, c := range scenarios.Claims() {
		out.Claims = append(out.Claims, claim{ID: c.ID, Text: c.Text, Guide: c.Guide, Applies: c.AppliesTo()})
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

func newImageCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Build, list and remove node images", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newImageBuildCommand(g), newImageListCommand(g), newImagePruneCommand(g))
	return cmd
}

func newImageBuildCommand(g *globals) *cobra.Command {
	f := &labFlags{}
	var quiet bool
	cmd := &cobra.Command{
		Use: "build", Short: "Build the node image, unless it is in the cache", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			dir, unlock, err := g.own()
			if err != nil {
				return err
			}
			defer unlock()
			events := sink(quiet, false)
			opts, err := g.labOptions(f, nil, dir, session.LabEvents(events))
			if err != nil {
				return err
			}
			img, err := lab.BuildImage(cmd.Context(), opts)
			if err := errors.Join(err, events.Close()); err != nil {
				return err
			}
			fmt.Printf("node image %s (Debian %s, docker %s, kernel %s)\n", img.Key, img.Content["debian"], img.Content["docker.io"], img.Content["kernel"])
			return nil
		},
	}
	f.registerImage(cmd)
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print only the result")
	return cmd
}

// openImages opens the image cache without looking for what building needs.
func openImages(g *globals) (*image.Store, error) {
	cache, err := g.cache()
	if err != nil {
		return nil, err
	}
	return image.OpenStore(filepath.Join(cache, "images"))
}

func newImageListCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the images in the cache, and what stands for the images of the guide", Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			store, err := openImages(g)
			if err != nil {
				return err
			}
			all, err := store.List()
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(table, "IMAGE\tRELEASE\tBUILT\tIN\tON DISK\tHOLDS")
			newest := map[string]string{} // what the newest software layer holds
			for _, m := range all {
				holds := "base system"
				switch m.Kind {
				case "node":
					holds = fmt.Sprintf("docker %s, kernel %s, drbd-utils %s", m.Content["docker.io"], m.Content["kernel"], m.Content["drbd-utils"])
				case "software":
					newest = m.Software
					holds = "container images of"
					for _, i := range software.Images() {
						holds += " " + i.Package + " " + m.Software[i.Package]
					}
				}
				fmt.Fprintf(table, "%s-%s\t%s\t%s\t%.0fs\t%s\t%s\n", m.Kind, m.Key, m.Release,
					m.Created.Local().Format("2006-01-02 15:04"), m.BuildS, units.BytesSize(float64(m.BytesOnDisk)), holds)
			}
			fmt.Fprintln(table, "\t\t\t\t\t")
			if err := table.Flush(); err != nil {
				return err
			}
			fmt.Fprintln(table, "IN THE GUIDE\tRUNS AS\tWHICH IS")
			for _, s := range scenarios.StandInImages() {
				what := "hiveproof's agent"
				if s.Package != "" {
					what = strings.TrimSpace("Debian's " + s.Package + " " + newest[s.Package])
				}
				fmt.Fprintf(table, "%s\t%s\t%s\n", s.Image, s.RunsAs, what)
			}
			return table.Flush()
		},
	}
}

func newImagePruneCommand(g *globals) *cobra.Command {
	f := &labFlags{}
	var everything bool
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove the images that this version would not use", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			// A lab that is up starts its hosts' disks on an image.
			_, unlock, err := g.own()
			if err != nil {
				return err
			}
			defer unlock()
			store, err := openImages(g)
			if err != nil {
				return err
			}
			var keep *image.Spec
			if !everything {
				cache, err := g.cache()
				if err != nil {
					return err
				}
				_, spec, err := lab.Images(cache, f.release, f.mirror)
				if err != nil {
					return err
				}
				keep = &spec
			}
			removed, err := store.Prune(keep)
			for _, m := range removed {
				fmt.Printf("removed %s-%s (%s)\n", m.Kind, m.Key, units.BytesSize(float64(m.BytesOnDisk)))
			}
			return err
		},
	}
	f.registerImage(cmd)
	cmd.Flags().BoolVar(&everything, "all", false, "remove every image")
	return cmd
}

func newReportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "report [RUNDIR]", Short: "Render the reports of a run again, also of one that crashed",
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := filepath.Join(defaultOutput, reports.LatestLink)
			if len(args) > 0 {
				dir = args[0]
			}
			store, err := reports.Open(dir)
			if errors.Is(err, fs.ErrNotExist) {
				return usageError{fmt.Errorf("%s is no run directory: it has no %s", dir, reports.ResultFile)}
			}
			if err != nil {
				return err
			}
			result, err := reports.Load(dir)
			if err != nil {
				return err
			}
			if err := store.Render(result); err != nil {
				return err
			}
			reports.PrintResult(os.Stdout, result, store.Dir(), false)
			return nil
		},
	}
}

func newGCCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "gc", Short: "Remove what killed runs left: processes, disks, directories", Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			dir, err := g.state()
			if err != nil {
				return err
			}
			reaped, err := dir.ReapOrphans()
			for _, r := range reaped {
				fmt.Printf("%s: ended %d process(es), removed %s\n", r.ID, len(r.Processes), strings.Join(r.Paths, ", "))
			}
			if err == nil && len(reaped) == 0 {
				fmt.Println("nothing to remove")
			}
			return err
		},
	}
}
