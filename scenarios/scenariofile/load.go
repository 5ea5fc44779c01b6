// Package scenariofile reads scenario files: scenarios that users bring, in YAML,
// with their own service definitions or a recipe of the guide. The format is
// documented in docs/scenario-files.md, and as a JSON Schema beside it.
package scenariofile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"github.com/hiveproof/hiveproof/scenarios/recipe/lint"
	"github.com/hiveproof/hiveproof/scenarios/recipes"
	"go.yaml.in/yaml/v4"
)

// maxBytes is what is read of a scenario file and of a file for the hosts at most.
const maxBytes = 1 << 20

// Load reads the scenario file at path and every file that it names, and checks it
// against the definitions and the topology that it will run on. All that is wrong
// with it is returned as recipe.Problems. The report is what lint says about the
// user's definitions, nil for a recipe of the guide and where they could not be read;
// its errors are not among the problems.
func Load(path string, top *topology.Topology) (scenarios.Scenario, *lint.Report, error) {
	r := &reader{file: path}
	src, err := readFile(path)
	if err != nil {
		r.complain(nil, "cannot be read: %v", err)
		return scenarios.Scenario{}, nil, r.err()
	}
	body := r.parse(src)
	if body == nil {
		return scenarios.Scenario{}, nil, r.err()
	}
	b := &builder{reader: r, file: r.read(body), dir: filepath.Dir(path), top: top, facts: scenarios.FactsOf(top)}
	b.build()
	report := b.report
	if b.file.recipe.value != "" {
		report = nil
	}
	if err := r.err(); err != nil {
		return scenarios.Scenario{}, report, err
	}
	return b.out, report, nil
}

func readFile(path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	src, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, reason(err)
	}
	if len(src) > maxBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxBytes)
	}
	return src, nil
}

// reason is an error of the file system without the path.
func reason(err error) error {
	var of *os.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// builder makes a scenario of a file.
type builder struct {
	*reader
	file   *file
	dir    string
	top    *topology.Topology
	facts  scenarios.Facts
	out    scenarios.Scenario
	report *lint.Report
}

func (b *builder) path(t text) string {
	if filepath.IsAbs(t.value) {
		return t.value
	}
	return filepath.Join(b.dir, t.value)
}

// refer keeps what is wrong with a file that the scenario names: where it stands in
// it if that is known, else where it is named.
func (b *builder) refer(at *yaml.Node, what string, err error) {
	var problems recipe.Problems
	if errors.As(err, &problems) {
		b.problems = append(b.problems, problems...)
		return
	}
	b.complain(at, "%s: %s", what, strings.Join(strings.Fields(err.Error()), " "))
}

func (b *builder) build() {
	f := b.file
	b.out.Workload = scenarios.Agent
	if f.recipe.value != "" {
		all := scenarios.All()
		b.out = all[slices.IndexFunc(all, func(s scenarios.Scenario) bool { return recipeName(s) == f.recipe.value })]
	}
	b.out.ID, b.out.Stage = f.id, f.stage
	switch {
	case f.title != "":
		b.out.Title, b.out.English = f.title, f.title
	case b.out.Title == "":
		b.out.Title, b.out.English = f.id, f.id
	}
	if f.workload != "" {
		b.out.Workload = workloads[f.workload]
	}
	b.vars()
	if f.tagMapping.value != "" {
		images, err := recipe.ParseTagMappingFile(b.path(f.tagMapping))
		if err != nil {
			b.refer(f.tagMapping.at, "tag_mapping", err)
		}
		b.out.Images = images
	}
	if f.front != nil {
		b.out.Front = &scenarios.Front{Kind: scenarios.FrontKind(f.front.kind), Service: f.front.service.value,
			Proxy: f.front.proxy.value, Sticky: f.front.sticky}
	}
	if f.views.value != "" {
		b.out.Views = f.views.value
	}
	b.hostFiles()
	b.clients()
	b.out.Faults = f.faults
	for _, c := range f.claims {
		ref := scenarios.ClaimRef{ID: c.id.value, Service: c.service.value}
		for name, value := range c.params {
			if ref.Params == nil {
				ref.Params = map[string]string{}
			}
			ref.Params[name] = value.value
		}
		b.out.Claims = append(b.out.Claims, ref)
	}
	b.definitions()
	if b.report != nil && !broken(b.report) {
		b.services()
		b.checkClaims()
	}
}

func (b *builder) vars() {
	vars := map[string]string{}
	for name, value := range b.out.Vars { // the guide's scenario's
		vars[name] = value
	}
	if f := b.file.varsFile; f.value != "" {
		read, err := recipe.ParseVarsFile(b.path(f))
		if err != nil {
			b.refer(f.at, "vars_file", err)
		}
		for name, value := range read {
			vars[name] = value
		}
	}
	for name, value := range b.file.vars {
		vars[name] = value.value
	}
	b.out.Vars = vars
}

func (b *builder) hostFiles() {
	if b.file.files != nil {
		b.out.Files = nil
	}
	for _, f := range b.file.files {
		content := f.content.value
		if f.from.value != "" {
			src, err := readFile(b.path(f.from))
			switch {
			case err != nil:
				b.complain(f.from.at, "%s cannot be read: %v", quote(b.path(f.from)), err)
			case !utf8.Valid(src):
				b.complain(f.from.at, "%s is no UTF-8 text", quote(b.path(f.from)))
			}
			content = string(src)
		}
		if f.host.value != "" && !slices.ContainsFunc(b.top.Hosts, func(h topology.Host) bool { return h.Name == f.host.value }) {
			b.complain(f.host.at, "the topology has no host %s", quote(f.host.value))
		}
		b.out.Files = append(b.out.Files, scenarios.HostFile{Path: f.path.value, Content: content, Host: f.host.value})
	}
}

func (b *builder) clients() {
	for _, c := range b.file.clients {
		if c.value != "" && !slices.ContainsFunc(b.top.Clients, func(t topology.Client) bool { return t.Name == c.value }) {
			var names []string
			for _, t := range b.top.Clients {
				names = append(names, t.Name)
			}
			b.complain(c.at, "the topology has no client %s: it has %s", quote(c.value), strings.Join(names, ", "))
		}
		b.out.Clients = append(b.out.Clients, c.value)
	}
}

// definitions reads and lints them.
func (b *builder) definitions() {
	opts := lint.Options{Hosts: b.facts.Hosts, Stage: b.out.Stage, Vars: b.out.Vars}
	f := b.file
	var found []lint.Source
	at, names := f.recipe.at, []string{f.recipe.value}
	if f.recipe.value != "" {
		src, err := recipes.Read(b.out.Recipe)
		if err != nil {
			b.complain(f.recipe.at, "%v", err)
			return
		}
		found = []lint.Source{{Path: b.out.Recipe, Text: src}}
	}
	if len(f.services) > 0 {
		at, names = f.services[0].at, nil
		for _, s := range f.services {
			sources, err := lint.Load([]string{b.path(s)})
			if err != nil {
				b.refer(s.at, "services", err)
			}
			for _, source := range sources {
				if !slices.ContainsFunc(found, func(other lint.Source) bool { return other.Path == source.Path }) {
					found = append(found, source)
				}
			}
			names = append(names, s.value)
		}
		b.out.Recipe = strings.Join(names, ", ")
	}
	if len(b.problems) > 0 && len(found) == 0 {
		return
	}
	sources, report, err := define(found, strings.Join(names, ", "), opts)
	if err != nil {
		b.complain(at, "%v", err)
		return
	}
	if b.report = report; f.recipe.value == "" {
		b.out.Sources = sources
	}
}

// services checks the names of services outside the claims.
func (b *builder) services() {
	f := b.file
	named := map[string]text{"views": f.views}
	if f.front != nil {
		named["load_balancer.service"], named["load_balancer.proxy"] = f.front.service, f.front.proxy
	}
	var names []string
	for _, file := range b.report.Files {
		for _, s := range file.Services {
			names = append(names, s.Name)
		}
	}
	for key, t := range named {
		if t.value != "" && !slices.Contains(names, t.value) {
			b.complain(t.at, "%s: the definitions have no service %s: they have %s", key, quote(t.value), strings.Join(names, ", "))
		}
	}
}

// checkClaims finds what only the definitions can tell about the claims, and
// templates without which nothing can be deployed.
func (b *builder) checkClaims() {
	for _, f := range b.report.Files {
		for _, u := range f.Unresolved {
			b.problems = append(b.problems, recipe.Problem{File: f.Path, Line: u.Line, Column: u.Column, Service: u.Service,
				Message: "a template where the value must be known: give it one in vars or vars_file of " + b.reader.file})
		}
	}
	refs, err := b.out.CheckClaims(b.facts)
	var missing *scenarios.SelectionError // a template, which was told above
	if err != nil && !errors.As(err, &missing) {
		b.refer(nil, "services", err)
	}
	for _, ref := range refs {
		c := b.file.claims[ref.Index]
		at := c.at
		switch {
		case ref.Param != "":
			at = c.params[ref.Param].at
		case ref.Key == "service":
			at = c.service.at
		case c.id.at != nil:
			at = c.id.at
		}
		if c.id.value != "" { // else that was told
			b.complain(at, "%s", ref.Message)
		}
	}
}
