package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"github.com/hiveproof/hiveproof/scenarios/recipe/lint"
	"github.com/hiveproof/hiveproof/scenarios/scenariofile"
	"github.com/spf13/cobra"
)

// ownFlags are the scenarios that the user brings.
type ownFlags struct {
	services, files             []string
	vars, stage, workload, tags string
	force, pull                 bool
}

func (f *ownFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.services, "services", nil, "deploy these service definitions, a file or a directory, in the place of the guide's scenarios; repeated, they are one site")
	flags.StringArrayVar(&f.files, "scenario-file", nil, "run the scenario in this file (see docs/scenario-files.md); may be repeated")
	flags.StringVar(&f.vars, "vars", "", "with --services: YAML file with the variables that templates look up")
	flags.StringVar(&f.stage, "stage", "", "with --services: deploy only what is available on this stage: "+strings.Join(recipe.Stages(), ", "))
	flags.StringVar(&f.workload, "workload", string(scenarios.Agent), "with --services: what runs in each service's place: the agent, or the image that it names")
	flags.StringVar(&f.tags, "tag-mapping", "", "JSON file with the image tags that run instead of others (hive-builder's tag-mapping.json)")
	flags.BoolVar(&f.force, "force", false, "deploy one's own definitions although lint finds errors in them")
	flags.BoolVar(&f.pull, "pull", false, "run the images that the definitions name, pulled from their registries to this machine and loaded onto the hosts")
	for flag, extensions := range map[string][]string{"scenario-file": {"yml", "yaml"}, "vars": {"yml", "yaml"}, "tag-mapping": {"json"}} {
		_ = cmd.MarkFlagFilename(flag, extensions...)
	}
	complete(cmd, "stage", recipe.Stages)
	complete(cmd, "workload", workloads)
}

func workloads() []string { return []string{string(scenarios.Agent), string(scenarios.Image)} }

// check finds flags that contradict each other or have nothing to say.
func (f *ownFlags) check(cmd *cobra.Command) error {
	changed := cmd.Flags().Changed
	switch {
	case len(f.services) > 0 && len(f.files) > 0:
		return usageError{errors.New("--services and --scenario-file: a scenario file names its definitions itself; give one or the other")}
	case len(f.services) > 0 && changed("scenario"):
		return usageError{errors.New("--services and --scenario: the definitions are the one scenario that is run; leave --scenario out")}
	case len(f.services)+len(f.files) > 0 && changed("mutate"):
		return usageError{errors.New("--mutate: mutations are of the guide's scenarios, not of one's own")}
	}
	for _, flag := range []string{"vars", "stage", "workload"} {
		if changed(flag) && len(f.services) == 0 {
			why := "it is for --services"
			if len(f.files) > 0 {
				why += "; a scenario file says it itself"
			}
			return usageError{fmt.Errorf("--%s: %s", flag, why)}
		}
	}
	if f.force && len(f.services)+len(f.files) == 0 {
		return usageError{errors.New("--force: it is for --services and --scenario-file; the guide's definitions have no errors")}
	}
	if !slices.Contains(workloads(), f.workload) {
		return usageError{fmt.Errorf("--workload %q is none of %s", f.workload, strings.Join(workloads(), ", "))}
	}
	return nil
}

// selectInto puts the user's scenarios and tags into a selection. What lint has to
// say goes to out; its errors end the run before it has begun.
func (f *ownFlags) selectInto(sel *scenarios.Selection, top *topology.Topology, out *os.File) error {
	if f.tags != "" {
		images, err := recipe.ParseTagMappingFile(f.tags)
		if err != nil {
			return usageError{fmt.Errorf("--tag-mapping: %w", err)}
		}
		sel.Images = images
	}
	if len(f.services) > 0 {
		s, report, err := f.site(top)
		if err != nil {
			return err
		}
		sel.Own = append(sel.Own, s)
		return f.lint(report, out)
	}
	var errs []error
	for _, path := range f.files {
		s, report, err := scenariofile.Load(path, top)
		if report != nil {
			err = errors.Join(f.lint(report, out), err)
		}
		if err == nil && slices.ContainsFunc(sel.Own, func(other scenarios.Scenario) bool { return other.ID == s.ID }) {
			err = fmt.Errorf("--scenario-file %s: its id %s is that of another of the files", path, s.ID)
		}
		errs, sel.Own = append(errs, err), append(sel.Own, s)
	}
	if err := errors.Join(errs...); err != nil {
		return usageError{err}
	}
	return nil
}

// lint prints what lint has found; errors are an error unless they are to be deployed.
func (f *ownFlags) lint(report *lint.Report, out *os.File) error {
	if err := lint.WriteText(out, report, reports.UseColour(out)); err != nil {
		return err
	}
	if report.Failed(false) && !f.force {
		return usageError{errors.New("lint finds errors in the definitions: nothing was started (--force deploys them all the same)")}
	}
	return nil
}

// site is the scenario that --services makes.
func (f *ownFlags) site(top *topology.Topology) (scenarios.Scenario, *lint.Report, error) {
	site := siteFlags{hosts: scenarios.FactsOf(top).Hosts, stage: f.stage, vars: f.vars}
	opts, err := site.options()
	if err != nil {
		return scenarios.Scenario{}, nil, err
	}
	sources, report, err := scenariofile.Definitions(f.services, opts)
	if err != nil {
		return scenarios.Scenario{}, nil, usageError{err}
	}
	id, err := siteID(f.services[0])
	if err != nil {
		return scenarios.Scenario{}, nil, err
	}
	return scenarios.Scenario{
		ID: id, Title: id, English: "one's own definitions", Recipe: strings.Join(f.services, ", "),
		Sources: sources, Vars: opts.Vars, Stage: f.stage, Workload: scenarios.Workload(f.workload),
	}, report, nil
}

// siteID makes a scenario's ID of the name of a file or directory: small letters,
// digits and hyphens, a letter first.
func siteID(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("--services: %w", err)
	}
	name := filepath.Base(abs)
	if ext := filepath.Ext(name); ext == ".yml" || ext == ".yaml" {
		name = strings.TrimSuffix(name, ext)
	}
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	id := strings.Join(words, "-")
	if id == "" || id[0] <= '9' {
		id = strings.TrimSuffix("site-"+id, "-")
	}
	return id, nil
}
