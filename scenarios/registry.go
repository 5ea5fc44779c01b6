// Package scenarios holds what hiveproof proves: the registry of scenarios, the
// claims that are derived from a recipe's axes, and the runner that deploys,
// observes, judges and records.
package scenarios

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"github.com/hiveproof/hiveproof/scenarios/recipes"
)

// Scenario is a recipe to deploy and judge.
type Scenario struct {
	ID      string
	Title   string // the guide's section (構成ガイド)
	English string
	Recipe  string            // file name among the embedded recipes
	Vars    map[string]string // what the recipe's templates look up
}

// all are the scenarios in the guide's order.
var all = []Scenario{
	{
		ID: "stateless-mesh", Title: "ステートレスメッシュルーティング", English: "stateless service behind the routing mesh",
		Recipe: "stateless-mesh.yml", Vars: map[string]string{"db_password": "hiveproof"},
	},
	{
		ID: "stateless-global", Title: "ステートレスグローバル", English: "stateless global service with one-to-one routing",
		Recipe: "stateless-global.yml", Vars: map[string]string{"db_password": "hiveproof"},
	},
}

// All returns every scenario in the guide's order.
func All() []Scenario { return slices.Clone(all) }

// load parses the scenario's recipe and resolves its templates.
func (s Scenario) load() (*recipe.Recipe, error) {
	src, err := recipes.Read(s.Recipe)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.ID, err)
	}
	r, err := recipe.Parse(s.Recipe, src)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.ID, err)
	}
	unresolved, err := r.Resolve(s.Vars)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.ID, err)
	}
	if len(unresolved) > 0 {
		return nil, fmt.Errorf("scenario %s: a template is not resolved: %+v", s.ID, unresolved[0])
	}
	return r, nil
}

// SelectionError says why a selection cannot be run; it is the user's to mend.
type SelectionError struct{ Message string }

func (e *SelectionError) Error() string { return e.Message }

// Selection is what the user asked for.
type Selection struct {
	Scenario, Claim string // regular expressions; empty selects all
	// Controls are claims that every selected scenario is judged by although its
	// axes do not derive them: a negative control, which is expected to fail.
	Controls []string
	// Shuffle is the seed of a random order of the scenarios; 0 keeps the registry's.
	Shuffle uint64
}

// Plan is what will be run.
type Plan struct {
	Scenarios []Planned
}

// Planned is one scenario with the claims that it will be judged by.
type Planned struct {
	Scenario Scenario
	Recipe   *recipe.Recipe
	Claims   []Instance
}

// Instance is a claim about one service of a scenario.
type Instance struct {
	Claim   Claim
	Service string
	Control bool
}

// NewPlan selects scenarios and derives their claims for a site with a number of
// hosts. A selection that cannot be is a *SelectionError.
func NewPlan(sel Selection, hosts int) (*Plan, error) {
	scenarioRE, err := compile("--scenario", sel.Scenario)
	if err != nil {
		return nil, err
	}
	claimRE, err := compile("--claim", sel.Claim)
	if err != nil {
		return nil, err
	}
	controls, err := controlClaims(sel.Controls)
	if err != nil {
		return nil, err
	}
	p := &Plan{}
	matched, derived := 0, []string{}
	for _, s := range all {
		if !scenarioRE.MatchString(s.ID) {
			continue
		}
		matched++
		r, err := s.load()
		if err != nil {
			return nil, err
		}
		planned := Planned{Scenario: s, Recipe: r}
		for _, svc := range r.Services {
			axes := recipe.Classify(svc, hosts)
			for _, c := range claims {
				applies := c.Applies(axes)
				control := !applies && slices.Contains(controls, c.ID) && c.Judgeable(axes)
				if applies {
					derived = append(derived, c.ID)
				}
				// A control narrows the run to itself unless claims are selected as well.
				if control || applies && claimRE.MatchString(c.ID) && (len(controls) == 0 || sel.Claim != "") {
					planned.Claims = append(planned.Claims, Instance{Claim: c, Service: svc.Name, Control: control})
				}
			}
		}
		if len(planned.Claims) > 0 {
			p.Scenarios = append(p.Scenarios, planned)
		}
	}
	switch {
	case matched == 0:
		return nil, &SelectionError{fmt.Sprintf("--scenario %q selects none of: %s", sel.Scenario, strings.Join(scenarioIDs(), ", "))}
	case len(p.Scenarios) == 0 && len(controls) > 0:
		return nil, &SelectionError{fmt.Sprintf("--control %s: no service of the selected scenarios publishes a port that it could be judged on, or it is derived for them anyway",
			strings.Join(sel.Controls, ","))}
	case len(p.Scenarios) == 0:
		slices.Sort(derived)
		return nil, &SelectionError{fmt.Sprintf("--claim %q selects none of the claims derived for the selected scenarios: %s",
			sel.Claim, strings.Join(slices.Compact(derived), ", "))}
	}
	if sel.Shuffle != 0 {
		rand.New(rand.NewPCG(sel.Shuffle, sel.Shuffle)).Shuffle(len(p.Scenarios), func(i, j int) {
			p.Scenarios[i], p.Scenarios[j] = p.Scenarios[j], p.Scenarios[i]
		})
	}
	return p, nil
}

func compile(flag, expression string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, &SelectionError{fmt.Sprintf("%s %q is no regular expression: %v", flag, expression, err)}
	}
	return re, nil
}

func controlClaims(ids []string) ([]string, error) {
	for _, id := range ids {
		if !slices.ContainsFunc(claims, func(c Claim) bool { return c.ID == id }) {
			return nil, &SelectionError{fmt.Sprintf("--control %q is no claim; the claims are: %s", id, strings.Join(claimIDs(), ", "))}
		}
	}
	return ids, nil
}

func scenarioIDs() []string {
	var ids []string
	for _, s := range all {
		ids = append(ids, s.ID)
	}
	return ids
}

func claimIDs() []string {
	var ids []string
	for _, c := range claims {
		ids = append(ids, c.ID)
	}
	return ids
}

// Count is the number of claims in the plan.
func (p *Plan) Count() int {
	n := 0
	for _, s := range p.Scenarios {
		n += len(s.Claims)
	}
	return n
}
