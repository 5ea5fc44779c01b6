package scenarios

import (
	"context"
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
	Judge    string   // regular expression: the claims to judge by, those that it breaks and some that it does not
	Fails    []string // the claims that must fail, and no others

	mutate  func(*Planned)                            // changes what is deployed
	after   func(context.Context, *scenarioRun) error // breaks the site once it is deployed
	onFault func(context.Context, *scenarioRun) error // breaks it when a fault is injected
}

// Mutations returns every mutation, in the order of their scenarios.
func Mutations() []Mutation { return slices.Clone(mutations) }

// mutationOf finds the mutation that a selection names, nil if it names none, and
// has the selection select what it breaks, as far as it leaves that open.
func mutationOf(sel *Selection) (*Mutation, error) {
	if sel.Mutation == "" {
		return nil, nil
	}
	i := slices.IndexFunc(mutations, func(m Mutation) bool { return m.ID == sel.Mutation })
	if i < 0 {
		var ids []string
		for _, m := range mutations {
			ids = append(ids, m.ID)
		}
		return nil, &SelectionError{fmt.Sprintf("--mutate %q is no mutation; they are: %s", sel.Mutation, strings.Join(ids, ", "))}
	}
	m := &mutations[i]
	sel.Scenario = "^" + m.Scenario + "$"
	if sel.Claim == "" {
		sel.Claim = m.Judge
	}
	return m, nil
}

// mutate has something else deployed than was promised.
func (p *Planned) mutate(m *Mutation) {
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
	p.mutation = m
	if m.mutate != nil {
		m.mutate(p)
	}
}

// service is a service of what is deployed.
func (p *Planned) service(name string) *recipe.Service { return p.Deployed.Service(name) }
