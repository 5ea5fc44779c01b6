package scenariofile

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"go.yaml.in/yaml/v4"
)

// Version is what a file of this format says at its key version.
const Version = "hiveproof.scenario/v1"

var idForm = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// workloads are the names of scenarios.Workload in files.
var workloads = map[string]scenarios.Workload{
	"agent": scenarios.Agent, "image": scenarios.Image, "stand-ins": scenarios.StandIns,
}

// file is a scenario file as it is written.
type file struct {
	id, title, stage, workload string
	services                   []text
	recipe                     text
	vars                       map[string]text
	varsFile, tagMapping       text
	front                      *front
	views                      text
	files                      []hostFile
	clients                    []text
	claims                     []claim
	faults                     []string // nil if the key is not there
}

type front struct {
	kind           string
	service, proxy text
	sticky         bool
}

type hostFile struct {
	path, host, content, from text
}

type claim struct {
	at          *yaml.Node
	id, service text
	params      map[string]text
}

// read reads the file's keys.
func (r *reader) read(n *yaml.Node) *file {
	f := &file{}
	seen := r.fields(n, "a scenario", []string{"version", "id"}, map[string]func(*yaml.Node){
		"version": func(n *yaml.Node) { r.choice(n, "version", []string{Version}) },
		"id": func(n *yaml.Node) {
			if f.id = r.text(n, "id").value; f.id != "" && !idForm.MatchString(f.id) {
				r.complain(n, "id %s: want lower-case letters, digits and hyphens, a letter first", quote(f.id))
			}
		},
		"title":         func(n *yaml.Node) { f.title = r.text(n, "title").value },
		"services":      func(n *yaml.Node) { f.services = r.texts(n, "services") },
		"recipe":        func(n *yaml.Node) { f.recipe = text{r.choice(n, "recipe", recipeNames()), n} },
		"vars":          func(n *yaml.Node) { f.vars = r.scalars(n, "vars") },
		"vars_file":     func(n *yaml.Node) { f.varsFile = r.text(n, "vars_file") },
		"tag_mapping":   func(n *yaml.Node) { f.tagMapping = r.text(n, "tag_mapping") },
		"stage":         func(n *yaml.Node) { f.stage = r.choice(n, "stage", recipe.Stages()) },
		"workload":      func(n *yaml.Node) { f.workload = r.choice(n, "workload", slices.Sorted(maps.Keys(workloads))) },
		"load_balancer": func(n *yaml.Node) { f.front = r.front(n) },
		"views":         func(n *yaml.Node) { f.views = r.text(n, "views") },
		"files":         func(n *yaml.Node) { f.files = r.files(n) },
		"clients":       func(n *yaml.Node) { f.clients = r.texts(n, "clients") },
		"claims":        func(n *yaml.Node) { f.claims = r.claims(n) },
		"faults": func(n *yaml.Node) {
			f.faults = []string{}
			r.list(n, "faults", func(item *yaml.Node) {
				fault := r.choice(item, "an item of faults", scenarios.Faults())
				if fault != "" && slices.Contains(f.faults, fault) {
					r.complain(item, "faults has %s twice", quote(fault))
				}
				f.faults = append(f.faults, fault)
			})
		},
	})
	switch {
	case seen["services"] && seen["recipe"]:
		r.complain(n, "a scenario has services or a recipe of the guide, not both")
		f.recipe = text{}
	case seen != nil && !seen["services"] && !seen["recipe"]:
		r.complain(n, "a scenario needs services, or a recipe of the guide")
	}
	return f
}

func (r *reader) front(n *yaml.Node) *front {
	f := &front{}
	r.fields(n, "load_balancer", []string{"kind", "service"}, map[string]func(*yaml.Node){
		"kind": func(n *yaml.Node) {
			f.kind = r.choice(n, "kind", []string{string(scenarios.External), string(scenarios.BuiltIn)})
		},
		"service": func(n *yaml.Node) { f.service = r.text(n, "service") },
		"proxy":   func(n *yaml.Node) { f.proxy = r.text(n, "proxy") },
		"sticky":  func(n *yaml.Node) { f.sticky = r.bool(n, "sticky") },
	})
	switch {
	case f.kind == string(scenarios.BuiltIn) && f.proxy.at == nil:
		r.complain(n, "a built-in load balancer needs proxy, the service that it is")
	case f.kind == string(scenarios.External) && f.proxy.at != nil:
		r.complain(f.proxy.at, "proxy is for kind: built-in; an external load balancer is no service")
	case f.proxy.value != "" && f.proxy.value == f.service.value:
		r.complain(f.proxy.at, "the load balancer cannot be the service behind it")
	}
	return f
}

func (r *reader) files(n *yaml.Node) (out []hostFile) {
	r.list(n, "files", func(item *yaml.Node) {
		f := hostFile{}
		seen := r.fields(item, "a file", []string{"path"}, map[string]func(*yaml.Node){
			"path": func(n *yaml.Node) {
				f.path = r.text(n, "path")
				if p := f.path.value; p != "" && (!path.IsAbs(p) || path.Clean(p) != p || p == "/") {
					r.complain(n, "path %s: want the absolute path of a file, without . and ..", quote(p))
				}
			},
			"host": func(n *yaml.Node) { f.host = r.text(n, "host") },
			"content": func(n *yaml.Node) {
				if s := follow(n); s.Kind != yaml.ScalarNode || s.ShortTag() != "!!str" {
					r.complain(n, "content must be a text, not %s", describe(n))
				} else {
					f.content = text{s.Value, n}
				}
			},
			"from": func(n *yaml.Node) { f.from = r.text(n, "from") },
		})
		if seen != nil && (f.content.at == nil) == (f.from.at == nil) {
			r.complain(item, "a file needs one of content and from")
		}
		if f.path.value != "" && slices.ContainsFunc(out, func(other hostFile) bool {
			return other.path.value == f.path.value && other.host.value == f.host.value
		}) {
			r.complain(f.path.at, "file %s is given twice", quote(f.path.value))
		}
		out = append(out, f)
	})
	return out
}

func (r *reader) claims(n *yaml.Node) (out []claim) {
	r.list(n, "claims", func(item *yaml.Node) {
		c := claim{at: item}
		r.fields(item, "a claim", []string{"id"}, map[string]func(*yaml.Node){
			"id":      func(n *yaml.Node) { c.id = r.text(n, "id") },
			"service": func(n *yaml.Node) { c.service = r.text(n, "service") },
			"params":  func(n *yaml.Node) { c.params = r.scalars(n, "params") },
		})
		out = append(out, c)
	})
	if l := follow(n); l.Kind == yaml.SequenceNode && len(l.Content) == 0 {
		r.complain(n, "claims is empty: leave it out to be judged by all that are derived")
	}
	return out
}

// recipeNames are what files may say at their key recipe.
func recipeNames() (names []string) {
	for _, s := range scenarios.All() {
		names = append(names, recipeName(s))
	}
	return names
}

func recipeName(s scenarios.Scenario) string { return strings.TrimSuffix(s.Recipe, ".yml") }
