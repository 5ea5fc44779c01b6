package scenarios

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// listing is a plan as lines "scenario service claim".
func listing(p *Plan) []string {
	var all []string
	for _, s := range p.Scenarios {
		for _, c := range s.Claims {
			line := s.Scenario.ID + " " + c.Service + " " + c.Claim.ID
			if c.Control {
				line += " control"
			}
			all = append(all, line)
		}
	}
	return all
}

// site is the default topology's.
var site = FactsOf(topology.Default())

// prefixed puts a scenario's and a service's name before claims.
func prefixed(scenario, service string, claims ...string) []string {
	var all []string
	for _, c := range claims {
		all = append(all, scenario+" "+service+" "+c)
	}
	return all
}

var (
	internalClaims = []string{"internal/not-exposed", "internal/resolves-to-tasks"}
	oneToOneClaims = []string{"one-to-one/every-host-has-one", "one-to-one/source-kept", "one-to-one/local-task-answers"}

	meshClaims = append(prefixed("stateless-mesh", "powerdns", "mesh/every-host-answers", "mesh/source-hidden", "mesh/balances", "mesh/no-views",
		"mesh/scales", "mesh/survives-task-loss", "mesh/survives-host-loss"), prefixed("stateless-mesh", "pdnsdb", internalClaims...)...)
	globalClaims = append(append(prefixed("stateless-global", "powerdns", oneToOneClaims...),
		prefixed("stateless-global", "powerdns", "one-to-one/views", "one-to-one/fallback")...), prefixed("stateless-global", "pdnsdb", internalClaims...)...)
	lbMeshClaims = append(prefixed("lb-stateless-mesh", "speedtest", "mesh/every-host-answers", "mesh/source-hidden", "mesh/balances", "mesh/not-sticky",
		"mesh/scales", "mesh/survives-task-loss", "mesh/survives-host-loss", "lb/forwarded-for", "lb/source-is-lb"), prefixed("lb-stateless-mesh", "stdb", internalClaims...)...)
	lbStickyClaims = append(append(prefixed("lb-sticky-global", "speedtest", oneToOneClaims...),
		prefixed("lb-sticky-global", "speedtest", "one-to-one/fallback", "lb/forwarded-for", "lb/source-is-lb", "lb/sticky")...), prefixed("lb-sticky-global", "stdb", internalClaims...)...)
	builtInClaims = slices.Concat(prefixed("builtin-lb", "proxy", oneToOneClaims...), prefixed("builtin-lb", "proxy", "one-to-one/fallback", "lb/reload-in-place"),
		prefixed("builtin-lb", "speedtest", "lb/forwarded-for", "lb/source-is-lb"), prefixed("builtin-lb", "speedtest", internalClaims...), prefixed("builtin-lb", "stdb", internalClaims...))
	builtInStickyClaims = slices.Concat(prefixed("builtin-sticky", "proxy", oneToOneClaims...), prefixed("builtin-sticky", "proxy", "one-to-one/fallback", "lb/reload-in-place"),
		prefixed("builtin-sticky", "speedtest", oneToOneClaims...), prefixed("builtin-sticky", "speedtest", "one-to-one/fallback", "lb/forwarded-for", "lb/source-is-lb",
			"lb/sticky", "lb/sticky-any-door", "ports/internal-range"), prefixed("builtin-sticky", "stdb", internalClaims...))
	everything = slices.Concat(meshClaims, globalClaims, lbMeshClaims, lbStickyClaims, builtInClaims, builtInStickyClaims)
)

func TestNewPlan(t *testing.T) {
	for _, test := range []struct {
		name string
		sel  Selection
		want []string
	}{
		{"everything", Selection{}, everything},
		{"all", Selection{Scenario: "all"}, everything},
		{"one scenario", Selection{Scenario: "^stateless-mesh$"}, meshClaims},
		{"part of an ID", Selection{Scenario: "less-glob"}, globalClaims},
		{"one claim", Selection{Scenario: "^stateless", Claim: "source-kept"}, globalClaims[1:2]},
		{"claims of both", Selection{Scenario: "^stateless", Claim: "source"}, []string{meshClaims[1], globalClaims[1]}},
		{"both", Selection{Scenario: "^stateless-mesh", Claim: "^(internal/|mesh/bal)"}, []string{meshClaims[2], meshClaims[7], meshClaims[8]}},
		{"a mutation selects what it breaks", Selection{Mutation: "vip-for-dnsrr"}, meshClaims[7:]},
		{"a mutation and a claim", Selection{Mutation: "vip-for-dnsrr", Claim: "resolves"}, meshClaims[8:]},
		{"a control alone", Selection{Scenario: "^stateless-mesh", Controls: []string{"one-to-one/source-kept"}},
			[]string{"stateless-mesh powerdns one-to-one/source-kept control"}},
		{"a control beside claims", Selection{Scenario: "^stateless-mesh", Claim: "hidden", Controls: []string{"one-to-one/source-kept"}},
			[]string{meshClaims[1], "stateless-mesh powerdns one-to-one/source-kept control"}},
		// It is derived for the global service: only the mesh can contradict it.
		{"a control where it is none", Selection{Scenario: "^stateless", Controls: []string{"one-to-one/source-kept"}},
			[]string{"stateless-mesh powerdns one-to-one/source-kept control"}},
		{"two controls", Selection{Scenario: "less-global", Controls: []string{"mesh/balances", "mesh/source-hidden"}},
			[]string{"stateless-global powerdns mesh/source-hidden control", "stateless-global powerdns mesh/balances control"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := NewPlan(test.sel, site)
			if err != nil {
				t.Fatal(err)
			}
			if got := listing(p); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(test.want, "\n  "))
			}
		})
	}
}

func TestSelectionErrors(t *testing.T) {
	for _, test := range []struct {
		name string
		sel  Selection
		want []string // all in the message
	}{
		{"no such scenario", Selection{Scenario: "stateful"}, []string{`--scenario "stateful"`, "stateless-mesh, stateless-global"}},
		{"no such claim", Selection{Scenario: "less-global", Claim: "mesh"}, []string{`--claim "mesh"`, "one-to-one/every-host-has-one, one-to-one/fallback, one-to-one/local-task-answers"}},
		{"bad scenario", Selection{Scenario: "("}, []string{"--scenario", `"("`, "regular expression"}},
		{"bad claim", Selection{Claim: "[z-a]"}, []string{"--claim", `"[z-a]"`, "regular expression"}},
		{"no such control", Selection{Controls: []string{"mesh/nonsense"}}, []string{`"mesh/nonsense"`, "mesh/balances", "internal/not-exposed"}},
		{"a control is no expression", Selection{Controls: []string{"source"}}, []string{`"source"`}},
		{"no such mutation", Selection{Mutation: "sabotage"}, []string{`"sabotage"`, "no-cookie"}},
		{"a derived control", Selection{Scenario: "less-global", Controls: []string{"one-to-one/source-kept"}}, []string{"--control one-to-one/source-kept"}},
		{"a control that nothing can show", Selection{Controls: []string{"internal/not-exposed"}}, []string{"--control internal/not-exposed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := NewPlan(test.sel, site)
			var selection *SelectionError
			if p != nil || !errors.As(err, &selection) {
				t.Fatalf("got %v, %v; want a *SelectionError", p, err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %s", err, want)
				}
			}
		})
	}
}

// What reports and reruns refer to must be unambiguous, and lead back to the guide.
func TestClaimsAndScenarios(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Claims() {
		if seen[c.ID] || c.Text == "" || c.Guide == "" || c.AppliesTo() == "" {
			t.Errorf("claim %+v", c)
		}
		seen[c.ID] = true
	}
	for _, s := range All() {
		if seen[s.ID] || s.Title == "" || s.English == "" {
			t.Errorf("scenario %+v", s)
		}
		seen[s.ID] = true
	}
	// The lists are copies.
	Claims()[0].ID, All()[0].ID = "x", "x"
	if Claims()[0].ID == "x" || All()[0].ID == "x" {
		t.Error("a caller can change the registry")
	}
}

// A claim that a place does not derive says what it is for and what differs.
func TestWhyNot(t *testing.T) {
	var places []Place
	for _, b := range []recipe.Balance{recipe.Singleton, recipe.Scalable, recipe.Global} {
		for _, p := range []recipe.Publish{recipe.Internal, recipe.Mesh, recipe.OneToOne, recipe.VirtualIP} {
			axes := recipe.Axes{Balance: b, Volume: recipe.Stateless, Publish: p}
			places = append(places, Place{Axes: axes}, Place{Axes: axes, InternalPorts: true, Views: true}, Place{Axes: axes, Balances: true},
				Place{Axes: axes, Behind: &Front{Kind: External}}, Place{Axes: axes, Behind: &Front{Kind: BuiltIn, Sticky: true}})
		}
	}
	for _, c := range Claims() {
		derived := 0
		for _, p := range places {
			why := c.WhyNot(p)
			if c.Applies(p) != (why == "") {
				t.Errorf("%s applies to %+v: %v, and yet %q", c.ID, p, c.Applies(p), why)
			}
			if c.Applies(p) {
				derived++
			}
		}
		if derived == 0 || derived == len(places) {
			t.Errorf("%s is derived for %d of %d places", c.ID, derived, len(places))
		}
	}
	balances, _ := claimByID("mesh/balances")
	for want, a := range map[string]recipe.Axes{
		"is for mesh + scalable, and this service is singleton":              {Balance: recipe.Singleton, Publish: recipe.Mesh},
		"is for mesh + scalable, and this service is internal and singleton": {Balance: recipe.Singleton, Publish: recipe.Internal},
		"": {Balance: recipe.Scalable, Publish: recipe.Mesh},
	} {
		if got := balances.WhyNot(Place{Axes: a}); got != want {
			t.Errorf("%s and %v: %q, want %q", balances.ID, a, got, want)
		}
	}
}

// What a topology cannot show is a skip that names what is missing, never left out.
func TestSkips(t *testing.T) {
	skipped := func(facts Facts) map[string]string {
		p, err := NewPlan(Selection{}, facts)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, s := range p.Scenarios {
			for _, in := range s.Claims {
				if in.Skip != "" {
					out[s.Scenario.ID+" "+in.Claim.ID] = in.Skip
				}
			}
		}
		return out
	}
	if got := skipped(site); len(got) > 0 {
		t.Errorf("the default topology skips %v", got)
	}
	noEdge, noPerimeter, alone := site, site, site
	noEdge.Edge, noPerimeter.Perimeter = false, false
	alone.Hosts, alone.Managers = 1, 1
	if got := skipped(noEdge); len(got) != len(lbMeshClaims)+len(lbStickyClaims) || !strings.Contains(got["lb-sticky-global lb/sticky"], "edge host") {
		t.Errorf("without an edge host: %v", got)
	}
	if got := skipped(noPerimeter); len(got) != 1 || !strings.Contains(got["builtin-sticky ports/internal-range"], "perimeter") {
		t.Errorf("without a perimeter: %v", got)
	}
	got := skipped(alone)
	for _, want := range []string{"stateless-mesh mesh/survives-host-loss", "stateless-global one-to-one/fallback"} {
		if got[want] == "" {
			t.Errorf("one host does not skip %s: %v", want, got)
		}
	}
	// Nothing is done for claims that are skipped.
	p, err := NewPlan(Selection{Scenario: "lb-sticky"}, noEdge)
	if err != nil {
		t.Fatal(err)
	}
	if p.NeedsEdge() || len(p.Scenarios[0].acts()) > 0 {
		t.Errorf("acts %v, needs the edge host %v", p.Scenarios[0].acts(), p.NeedsEdge())
	}
}

// A mutation changes what is deployed, not what was promised, and each names
// claims that its scenario derives.
func TestMutations(t *testing.T) {
	seen := map[string]bool{}
	broken := map[string]bool{}
	for _, m := range Mutations() {
		t.Run(m.ID, func(t *testing.T) {
			if seen[m.ID] || m.Text == "" || len(m.Fails) == 0 || m.mutate == nil && m.after == nil && m.onFault == nil {
				t.Errorf("%+v", m)
			}
			seen[m.ID] = true
			p, err := NewPlan(Selection{Mutation: m.ID}, site)
			if err != nil {
				t.Fatal(err)
			}
			planned := p.Scenarios[0]
			promised := plannedOf(t, scenarioOf(t, m.Scenario))
			a, err := plan(promised, fakeHosts)
			if err != nil {
				t.Fatal(err)
			}
			again, err := plan(Planned{Scenario: promised.Scenario, Recipe: planned.Recipe, Deployed: planned.Recipe}, fakeHosts)
			if err != nil || !reflect.DeepEqual(a.Specs, again.Specs) {
				t.Errorf("what was promised has changed: %v", err)
			}
			if m.Scenario != planned.Scenario.ID || reflect.DeepEqual(scenarioOf(t, m.Scenario).Front, (*Front)(nil)) != (planned.Scenario.Front == nil) {
				t.Errorf("scenario %+v", planned.Scenario)
			}
			for _, id := range m.Fails {
				broken[id] = true
				if !slices.ContainsFunc(planned.Claims, func(in Instance) bool { return in.Claim.ID == id && in.Skip == "" }) {
					t.Errorf("%s is not among what it is judged by", id)
				}
			}
		})
	}
	for _, f := range all {
		if f.Front != nil && f.Front.breaks != "" {
			t.Errorf("a mutation has changed the registry: %+v", f)
		}
	}
	for _, c := range Claims() {
		if !broken[c.ID] {
			t.Errorf("no mutation breaks %s", c.ID)
		}
	}
}

// docs/controls.md has a row for each mutation, as it is.
func TestControlsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/controls.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range Mutations() {
		row := fmt.Sprintf("| %s | %s | %s | `%s` |", m.ID, m.Scenario, m.Text, strings.Join(m.Fails, "`, `"))
		if !strings.Contains(string(text), row+"\n") {
			t.Errorf("docs/controls.md lacks %s", row)
		}
	}
}
