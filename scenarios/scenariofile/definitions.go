package scenariofile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"github.com/hiveproof/hiveproof/scenarios/recipe/lint"
)

// Definitions reads the service definitions in files and directories as one site,
// and lints them. Files of directories that are no service definitions are left
// out. An error is of files that cannot be read, and of a site without a service;
// what is wrong in the definitions is in the report.
func Definitions(paths []string, opts lint.Options) ([]scenarios.Source, *lint.Report, error) {
	found, err := lint.Load(paths)
	if err != nil {
		return nil, nil, err
	}
	return define(found, strings.Join(paths, ", "), opts)
}

func define(found []lint.Source, what string, opts lint.Options) (sources []scenarios.Source, report *lint.Report, err error) {
	report = lint.Run(found, opts)
	services := 0
	for _, f := range report.Files {
		services += len(f.Services)
		i := slices.IndexFunc(found, func(s lint.Source) bool { return s.Path == f.Path })
		sources = append(sources, scenarios.Source{Path: f.Path, Text: found[i].Text})
	}
	switch {
	case len(report.Files) == 0:
		return nil, nil, errors.New("no service definition in " + what)
	case services == 0 && !broken(report) && opts.Stage != "":
		return nil, nil, fmt.Errorf("%s: no service is available on stage %s", what, opts.Stage)
	case services == 0 && !broken(report):
		return nil, nil, fmt.Errorf("%s: no service is defined", what)
	}
	return sources, report, nil
}

// broken says whether the parser refuses one of the files, so that nothing can be
// said about its services.
func broken(report *lint.Report) bool {
	return slices.ContainsFunc(report.Files, func(f *lint.File) bool { return len(f.Problems()) > 0 })
}

// Problems are the errors that lint has found, as problems of the definitions, and
// what the parser refuses although a comment silences it.
func Problems(report *lint.Report) (out recipe.Problems) {
	add := func(p recipe.Problem) {
		p.Message = strings.TrimSpace(p.Rule+" "+p.Service) + ": " + p.Message
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	for _, f := range report.Files {
		for _, p := range f.Problems() {
			add(p)
		}
		for _, x := range f.Findings {
			if x.Severity == lint.Error {
				add(recipe.Problem{File: f.Path, Line: x.Line, Column: x.Column, Service: x.Service, Rule: x.Rule, Message: x.Message})
			}
		}
	}
	return out
}
