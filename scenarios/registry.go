// Package scenarios holds what hiveproof proves: the registry of scenarios, the
// claims that are derived from a recipe's axes, and the runner that deploys,
// observes, judges and records.
package scenarios

import (
	"fmt"
	"slices"

	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"github.com/hiveproof/hiveproof/scenarios/recipes"
)

// Scenario is a site to deploy and judge: service definitions, what stands before
// them, and what is asked of them. It crosses the supervisor's socket as JSON, so
// it holds the text of every file and no path.
type Scenario struct {
	ID      string
	Title   string // the guide's section (構成ガイド), or the user's own
	English string
	Recipe  string // what reports call the definitions: the embedded recipe, or the user's file

	Sources  []Source          `json:",omitempty"` // the definitions; of an embedded recipe if empty
	Vars     map[string]string `json:",omitempty"` // what templates look up
	Stage    string            `json:",omitempty"` // leaves out what is not available on it
	Workload Workload          `json:",omitempty"`
	// Pull is the directory through which images are pulled from their registries;
	// empty if they are on the hosts already.
	Pull string `json:",omitempty"`
	// Images maps tags of the definitions to those that run instead, before Workload
	// is looked at (hive-builder's tag-mapping.json).
	Images recipe.TagMapping `json:",omitempty"`

	Front *Front     `json:",omitempty"`
	Files []HostFile `json:",omitempty"`
	Views string     `json:",omitempty"` // the service whose answers depend on the client's address
	// Clients are those of the topology that ask, by name; empty for all.
	Clients []string `json:",omitempty"`
	// Claims are what the scenario is judged by; empty for all that are derived.
	Claims []ClaimRef `json:",omitempty"`
	// Faults are those that may be injected, of Faults; nil for all, and none if empty.
	Faults []string `json:",omitzero"`
}

// Source is the text of one definition file.
type Source struct {
	Path string
	Text []byte
}

// Workload says what runs in the place of the images that definitions name.
type Workload string

// The workloads.
const (
	// StandIns: what `hiveproof image list` shows for the image (the default for the guide's recipes).
	StandIns Workload = ""
	// Agent: the agent, for every image (the default for one's own definitions).
	Agent Workload = "agent"
	// Image: the image itself, which must be on the hosts.
	Image Workload = "image"
)

// ClaimRef names a claim about a service, with the parameters that differ from
// their defaults.
type ClaimRef struct {
	ID      string
	Service string            `json:",omitempty"` // empty for every service that derives it
	Params  map[string]string `json:",omitempty"`
}

var db = map[string]string{"db_password": "hiveproof"}

// all are the scenarios in the guide's order.
var all = []Scenario{
	{
		ID: "stateless-mesh", Title: "ステートレスメッシュルーティング", English: "stateless service behind the routing mesh",
		Recipe: "stateless-mesh.yml", Vars: db, Views: "powerdns",
	},
	{
		ID: "stateless-global", Title: "ステートレスグローバル", English: "stateless global service with one-to-one routing",
		Recipe: "stateless-global.yml", Vars: db, Views: "powerdns",
	},
	{
		ID: "lb-stateless-mesh", Title: "ロードバランサ背後ステートレスメッシュルーティング", English: "stateless web service in the mesh, behind an external load balancer",
		Recipe: "lb-stateless-mesh.yml", Front: &Front{Kind: External, Service: "speedtest"},
	},
	{
		ID: "lb-sticky-global", Title: "ロードバランサ背後スティッキーグローバル", English: "global web service behind an external load balancer with sticky sessions",
		Recipe: "lb-sticky-global.yml", Front: &Front{Kind: External, Service: "speedtest", Sticky: true},
	},
	{
		ID: "builtin-lb", Title: "内蔵ロードバランサ", English: "built-in load balancer before a scalable web service",
		Recipe: "builtin-lb.yml", Front: &Front{Kind: BuiltIn, Service: "speedtest", Proxy: "proxy"},
	},
	{
		ID: "builtin-sticky", Title: "スティッキー対応内蔵ロードバランサ", English: "built-in load balancer with sticky sessions before a global web service",
		Recipe: "builtin-sticky.yml", Front: &Front{Kind: BuiltIn, Service: "speedtest", Proxy: "proxy", Sticky: true},
	},
}

// All returns every scenario in the guide's order.
func All() []Scenario { return slices.Clone(all) }

// FactsOf are the facts of a topology on a provider that can cut its hosts' power.
func FactsOf(top *topology.Topology) Facts {
	f := Facts{Power: true, Perimeter: top.Perimeter, Edge: top.Edge() != nil}
	for _, h := range top.Swarm() {
		f.Hosts++
		if h.Manager {
			f.Managers++
		}
	}
	networks := map[string]bool{}
	for _, c := range top.Clients {
		networks[c.Network.String()] = true
		f.Outside = f.Outside || !top.OnSegment(c)
	}
	f.Networks = len(networks)
	return f
}

// load parses the scenario's definitions, which make one site, and resolves their templates.
func (s Scenario) load() (*recipe.Recipe, error) {
	sources := s.Sources
	if len(sources) == 0 {
		text, err := recipes.Read(s.Recipe)
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", s.ID, err)
		}
		sources = []Source{{Path: s.Recipe, Text: text}}
	}
	site := &recipe.Recipe{File: s.Recipe, Plugin: recipe.Plugin}
	for _, src := range sources {
		r, err := recipe.Parse(src.Path, src.Text)
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", s.ID, err)
		}
		unresolved, err := r.Resolve(s.Vars)
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", s.ID, err)
		}
		if s.Stage != "" {
			r = r.ForStage(s.Stage)
		}
		// A template in a text is deployed as it stands; where a number or a keyword must
		// be known nothing can be deployed.
		for _, u := range unresolved {
			if u.Service != "" && r.Service(u.Service) == nil {
				continue // not on this stage
			}
			if u.Needed || len(s.Sources) == 0 {
				return nil, &SelectionError{fmt.Sprintf("%s: %s has no value: give it one with --vars", u.Position, u.Text)}
			}
		}
		site.Services = append(site.Services, r.Services...)
		for _, n := range r.Networks {
			if !slices.ContainsFunc(site.Networks, func(other *recipe.Network) bool { return other.Name == n.Name }) {
				site.Networks = append(site.Networks, n)
			}
		}
	}
	return site, nil
}
