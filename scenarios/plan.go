package scenarios

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// SelectionError says why a selection cannot be run; it is the user's to mend.
type SelectionError struct{ Message string }

func (e *SelectionError) Error() string { return e.Message }

// Selection is what the user asked for.
type Selection struct {
	// Own are scenarios that the user brings; if there are any, the guide's are left out.
	Own             []Scenario `json:",omitempty"`
	Scenario, Claim string     // regular expressions; empty selects all, as does "all" for scenarios
	// Controls are claims that every selected scenario is judged by although its
	// axes do not derive them: a negative control, which is expected to fail.
	Controls []string
	// Images are tags that run instead of others in every selected scenario, before the scenario's own
	// and its Workload are looked at: they win.
	Images recipe.TagMapping `json:",omitempty"`
	// Pull has the images that definitions name run as they are, pulled through this
	// directory; empty pulls nothing.
	Pull string `json:",omitempty"`
	// Mutation breaks the scenario that it is of on purpose: see Mutations.
	Mutation string `json:",omitempty"`
	// Shuffle is the seed of a random order of the scenarios; 0 keeps the registry's.
	Shuffle uint64
}

// Plan is what will be run.
type Plan struct {
	Scenarios []Planned
}

// NeedsEdge says whether any scenario has its load balancer on the edge host.
func (p *Plan) NeedsEdge() bool {
	return slices.ContainsFunc(p.Scenarios, func(s Planned) bool {
		return s.Scenario.Front != nil && s.Scenario.Front.Kind == External && len(s.acts()) > 0
	})
}

// Planned is one scenario with the claims that it will be judged by.
type Planned struct {
	Scenario Scenario
	Recipe   *recipe.Recipe // what is promised
	Deployed *recipe.Recipe // what is deployed: the same, but for a mutation
	Claims   []Instance

	mutation *Mutation // nil for none
}

// Instance is a claim about one service of a scenario.
type Instance struct {
	Claim   Claim
	Service string
	Control bool
	Params  map[string]string // of the claim, defaults filled in
	// Skip says why the claim cannot be judged on this site; empty if it can.
	Skip string
}

// NewPlan selects scenarios and derives their claims for a site. A selection that
// cannot be is a *SelectionError.
func NewPlan(sel Selection, site Facts) (*Plan, error) {
	if sel.Scenario == "all" {
		sel.Scenario = ""
	}
	mutation, err := mutationOf(&sel)
	if err != nil {
		return nil, err
	}
	scenarioRE, err := compile("--scenario", sel.Scenario)
	if err != nil {
		return nil, err
	}
	claimRE, err := compile("--claim", sel.Claim)
	if err != nil {
		return nil, err
	}
	if err := checkControls(sel.Controls); err != nil {
		return nil, err
	}
	from := all
	if len(sel.Own) > 0 {
		from = sel.Own
	}
	p := &Plan{}
	matched, derived := 0, []string{}
	for _, s := range from {
		if !scenarioRE.MatchString(s.ID) {
			continue
		}
		matched++
		s.Images = s.Images.With(sel.Images)
		if sel.Pull != "" {
			s.Workload, s.Pull = Image, sel.Pull
		}
		r, err := s.load()
		if err != nil {
			return nil, err
		}
		planned := Planned{Scenario: s, Recipe: r, Deployed: r}
		instances, err := s.derive(r, site)
		if err != nil {
			return nil, err
		}
		for _, in := range instances {
			derived = append(derived, in.Claim.ID)
			// A control narrows the run to itself unless claims are selected as well.
			if claimRE.MatchString(in.Claim.ID) && (len(sel.Controls) == 0 || sel.Claim != "") {
				planned.Claims = append(planned.Claims, in)
			}
		}
		planned.Claims = append(planned.Claims, s.controls(r, site, sel.Controls)...)
		if mutation != nil {
			planned.mutate(mutation)
		}
		if len(planned.Claims) > 0 {
			p.Scenarios = append(p.Scenarios, planned)
		}
	}
	switch {
	case matched == 0:
		return nil, &SelectionError{fmt.Sprintf("--scenario %q selects none of: %s", sel.Scenario, strings.Join(scenarioIDs(from), ", "))}
	case len(p.Scenarios) == 0 && len(sel.Controls) > 0:
		return nil, &SelectionError{fmt.Sprintf("--control %s: no service of the selected scenarios publishes a port that it could be judged on, or it is derived for them anyway",
			strings.Join(sel.Controls, ","))}
	case len(p.Scenarios) == 0 && len(derived) == 0:
		return nil, &SelectionError{"no claim is derived for the services of: " + strings.Join(scenarioIDs(from), ", ")}
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

// derive lists the claims that the places of the scenario's services derive, or
// those that it names, service by service.
func (s Scenario) derive(r *recipe.Recipe, site Facts) ([]Instance, error) {
	if problems := s.checkClaims(r, site); len(problems) > 0 {
		var lines []string
		for _, p := range problems {
			lines = append(lines, fmt.Sprintf("scenario %s: %s", s.ID, p.Message))
		}
		return nil, &SelectionError{strings.Join(lines, "\n")}
	}
	var out []Instance
	for _, svc := range r.Services {
		place := placeOf(s, svc, site.Hosts)
		for _, c := range claims {
			if !c.Applies(place) {
				continue
			}
			params, named := s.named(c.ID, svc.Name)
			if named || len(s.Claims) == 0 {
				out = append(out, c.instance(s, svc.Name, site, params))
			}
		}
	}
	return out, nil
}

// named says whether the scenario names a claim about a service, and with which
// parameters; those given for the one service win.
func (s Scenario) named(id, service string) (params map[string]string, named bool) {
	params = map[string]string{}
	for _, about := range []string{"", service} {
		for _, ref := range s.Claims {
			if ref.ID == id && ref.Service == about {
				named = true
				maps.Copy(params, ref.Params)
			}
		}
	}
	return params, named
}

// controls are the claims that the scenario's places do not derive and that it is
// judged by all the same.
func (s Scenario) controls(r *recipe.Recipe, site Facts, ids []string) []Instance {
	var out []Instance
	for _, svc := range r.Services {
		place := placeOf(s, svc, site.Hosts)
		for _, c := range claims {
			if slices.Contains(ids, c.ID) && !c.Applies(place) && c.judgeable != nil && c.judgeable(place) {
				in := c.instance(s, svc.Name, site, nil)
				in.Control = true
				out = append(out, in)
			}
		}
	}
	return out
}

// instance is the claim about one service, with its default parameters but for those given.
func (c Claim) instance(s Scenario, service string, site Facts, params map[string]string) Instance {
	in := Instance{Claim: c, Service: service, Params: map[string]string{}}
	for _, p := range c.Params {
		in.Params[p.Name] = p.Default
	}
	maps.Copy(in.Params, params)
	needs := slices.Clone(c.needs)
	if s.Front != nil && s.Front.Kind == External {
		needs = append(needs, needsEdge) // the scenario is nothing without it
	}
	switch lack := site.lacks(needs); {
	case lack != "":
		in.Skip = "needs " + string(lack)
	case s.Workload == Image && slices.Contains(needs, needsAgent):
		in.Skip = "needs " + string(needsAgent)
	case s.Workload != StandIns && slices.Contains(c.acts, actViews):
		in.Skip = "needs the real server with the probes' zone, which only the guide's scenarios have"
	case len(s.Files) > 0 && slices.Contains(c.acts, actReload):
		in.Skip = "the load balancer's files are the scenario's own: how they would be changed is not known"
	default:
		if faults := s.forbids(c); len(faults) > 0 {
			in.Skip = "the scenario allows no " + strings.Join(faults, " and no ")
		}
	}
	return in
}

func compile(flag, expression string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, &SelectionError{fmt.Sprintf("%s %q is no regular expression: %v", flag, expression, err)}
	}
	return re, nil
}

func checkControls(ids []string) error {
	for _, id := range ids {
		if _, ok := claimByID(id); !ok {
			return &SelectionError{fmt.Sprintf("--control %q is no claim; the claims are: %s", id, strings.Join(claimIDs(), ", "))}
		}
	}
	return nil
}

func claimByID(id string) (Claim, bool) {
	i := slices.IndexFunc(claims, func(c Claim) bool { return c.ID == id })
	if i < 0 {
		return Claim{}, false
	}
	return claims[i], true
}

func scenarioIDs(from []Scenario) []string {
	var ids []string
	for _, s := range from {
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
