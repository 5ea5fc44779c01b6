package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	pages "github.com/hiveproof/hiveproof/docs/rules"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"github.com/hiveproof/hiveproof/scenarios/recipe/lint"
	"github.com/spf13/cobra"
)

// exitFindings is the exit code of lint if it has found errors.
const exitFindings = 1

// siteFlags say what site definitions are for.
type siteFlags struct {
	hosts             int
	hive, stage, vars string
}

func (f *siteFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&f.hosts, "hosts", 3, "hosts of the site that hold containers")
	flags.StringVar(&f.hive, "hive", "", "hive definition to take the number of hosts from: of --stage, or of its largest stage")
	flags.StringVar(&f.stage, "stage", "", "look only at services that are available on this stage: private, staging or production")
	flags.StringVar(&f.vars, "vars", "", "YAML file with the variables that templates look up")
	cmd.MarkFlagsMutuallyExclusive("hosts", "hive")
	for _, flag := range []string{"hive", "vars"} {
		_ = cmd.MarkFlagFilename(flag, "yml", "yaml")
	}
	complete(cmd, "stage", recipe.Stages)
}

func (f *siteFlags) options() (lint.Options, error) {
	opts := lint.Options{Hosts: f.hosts, Stage: f.stage}
	if f.hosts < 1 {
		return opts, usageError{fmt.Errorf("--hosts %d: a site has at least one host", f.hosts)}
	}
	if stages := recipe.Stages(); f.stage != "" && !slices.Contains(stages, f.stage) {
		return opts, usageError{fmt.Errorf("--stage %q is none of %s", f.stage, strings.Join(stages, ", "))}
	}
	if f.vars != "" {
		vars, err := recipe.ParseVarsFile(f.vars)
		if err != nil {
			return opts, usageError{err}
		}
		opts.Vars = vars
	}
	if f.hive == "" {
		return opts, nil
	}
	hive, err := recipe.ParseHiveFile(f.hive, opts.Vars)
	if err != nil {
		return opts, usageError{err}
	}
	opts.Hosts = 0
	for _, stage := range hive.Stages {
		if f.stage == "" || f.stage == stage.Name {
			opts.Hosts = max(opts.Hosts, stage.ContainerHosts())
		}
	}
	if opts.Hosts == 0 {
		return opts, usageError{fmt.Errorf("--stage %s: %s has no such stage", f.stage, f.hive)}
	}
	return opts, nil
}

type lintFlags struct {
	site            siteFlags
	format, explain string
	strict          bool
}

var lintFormats = []string{"text", "json", "sarif"}

func newLintCommand() *cobra.Command {
	f := &lintFlags{}
	cmd := &cobra.Command{
		Use:   "lint FILE|DIR…",
		Short: "Check service definitions against the guide, with no lab",
		Long: `Reads hive-builder service definitions and reports what the guide, hive-builder or
the engine forbids or discourages. All files and directories of one call are one
site. Files of directories that are no service definitions are skipped.

A comment "# hiveproof:ignore HP205 the reason" silences a rule in its line, in the
line below if it stands alone, or for a service if one begins there.

Exit codes: 0 no errors, 1 errors (with --strict also warnings, and values that could
not be checked), 2 usage, or a file that could not be read.`,
		Example: `  hiveproof lint inventory/
  hiveproof lint --hive inventory/hive.yml --stage production --vars inventory/group_vars/all.yml inventory/
  hiveproof lint --format sarif services.yml > lint.sarif
  hiveproof lint --explain HP204`,
		Args: arguments(func(cmd *cobra.Command, args []string) error {
			if f.explain != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.MinimumNArgs(1)(cmd, args)
		}),
		RunE: func(_ *cobra.Command, args []string) error { return f.run(args) },
	}
	f.site.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "text", "what to print: "+strings.Join(lintFormats, ", "))
	flags.StringVar(&f.explain, "explain", "", "print the page of this rule instead")
	flags.BoolVar(&f.strict, "strict", false, "warnings, and values that could not be checked, count as errors")
	complete(cmd, "format", func() []string { return lintFormats })
	complete(cmd, "explain", func() (all []string) {
		for _, r := range lint.Rules() {
			all = append(all, r.ID+"\t"+r.Title)
		}
		return all
	})
	return cmd
}

func (f *lintFlags) run(paths []string) error {
	if f.explain != "" {
		page, err := pages.Page(strings.ToUpper(f.explain))
		if err != nil {
			var ids []string
			for _, r := range lint.Rules() {
				ids = append(ids, r.ID)
			}
			return usageError{fmt.Errorf("--explain %q is no rule; the rules are %s", f.explain, strings.Join(ids, ", "))}
		}
		_, err = fmt.Print(page)
		return err
	}
	if !slices.Contains(lintFormats, f.format) {
		return usageError{fmt.Errorf("--format %q is none of %s", f.format, strings.Join(lintFormats, ", "))}
	}
	opts, err := f.site.options()
	if err != nil {
		return err
	}
	report, err := lintPaths(paths, opts)
	if err != nil {
		return err
	}
	switch f.format {
	case "json":
		err = lint.WriteJSON(os.Stdout, report)
	case "sarif":
		err = lint.WriteSARIF(os.Stdout, report, programVersion())
	default:
		err = lint.WriteText(os.Stdout, report, reports.UseColour(os.Stdout))
	}
	if err == nil && report.Failed(f.strict) {
		return exitStatus(exitFindings)
	}
	return err
}

// lintPaths lints files and directories; one that cannot be read, and no service
// definition at all, is a usage error.
func lintPaths(paths []string, opts lint.Options) (*lint.Report, error) {
	sources, err := lint.Load(paths)
	if err != nil {
		return nil, usageError{err}
	}
	report := lint.Run(sources, opts)
	if len(report.Files) == 0 {
		return nil, usageError{errors.New("no service definition in " + strings.Join(paths, ", "))}
	}
	return report, nil
}
