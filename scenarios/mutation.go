package scenarios

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// Mutation is a scenario that is broken on purpose after its claims were derived:
// what is deployed is no longer what was promised, and the claims say so or are
// worth nothing.
type Mutation struct {
	ID       string
	Scenario string
	Text     string   // what is broken
	Fails    []string // the claims that must fail, and no others
	mutate   func(*Planned)
}

// Mutations returns every mutation, in the order of their scenarios.
func Mutations() []Mutation { return slices.Clone(mutations) }

var mutations []Mutation

// mutate applies a mutation, by ID.
func (p *Planned) mutate(id string) error {
	i := slices.IndexFunc(mutations, func(m Mutation) bool { return m.ID == id })
	if i < 0 {
		var ids []string
		for _, m := range mutations {
			ids = append(ids, m.ID)
		}
		return &SelectionError{fmt.Sprintf("--mutate %q is no mutation; they are: %s", id, strings.Join(ids, ", "))}
	}
	if m := mutations[i]; m.Scenario != p.Scenario.ID {
		return &SelectionError{fmt.Sprintf("--mutate %s is for scenario %s: select it with --scenario '^%s$'", id, m.Scenario, m.Scenario)}
	}
	// What is deployed becomes a copy, two levels deep: what mutations change.
	deployed := *p.Recipe
	deployed.Services = nil
	for _, s := range p.Recipe.Services {
		service := *s
		service.Ports = nil
		for _, port := range s.Ports {
			changed := *port
			service.Ports = append(service.Ports, &changed)
		}
		deployed.Services = append(deployed.Services, &service)
	}
	p.Deployed = &deployed
	if f := p.Scenario.Front; f != nil {
		front := *f
		p.Scenario.Front = &front
	}
	mutations[i].mutate(p)
	return nil
}

// service is a service of what is deployed.
func (p *Planned) service(name string) *recipe.Service { return p.Deployed.Service(name) }
