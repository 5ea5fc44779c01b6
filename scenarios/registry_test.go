package scenarios

import (
	"errors"
	"reflect"
	"strings"
	"testing"

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

var (
	meshClaims = []string{
		"stateless-mesh powerdns mesh/every-host-answers",
		"stateless-mesh powerdns mesh/source-hidden",
		"stateless-mesh powerdns mesh/balances",
		"stateless-mesh pdnsdb internal/not-exposed",
	}
	globalClaims = []string{
		"stateless-global powerdns one-to-one/every-host-has-one",
		"stateless-global powerdns one-to-one/source-kept",
		"stateless-global powerdns one-to-one/local-task-answers",
	}
)

func TestNewPlan(t *testing.T) {
	for _, test := range []struct {
		name string
		sel  Selection
		want []string
	}{
		{"everything", Selection{}, append(append([]string{}, meshClaims...), globalClaims...)},
		{"one scenario", Selection{Scenario: "^stateless-mesh$"}, meshClaims},
		{"part of an ID", Selection{Scenario: "glob"}, globalClaims},
		{"one claim", Selection{Claim: "source-kept"}, globalClaims[1:2]},
		{"claims of both", Selection{Claim: "source"}, []string{meshClaims[1], globalClaims[1]}},
		{"both", Selection{Scenario: "mesh", Claim: "^(internal/|mesh/bal)"}, meshClaims[2:]},
		{"a control alone", Selection{Scenario: "stateless-mesh", Controls: []string{"one-to-one/source-kept"}},
			[]string{"stateless-mesh powerdns one-to-one/source-kept control"}},
		{"a control beside claims", Selection{Scenario: "stateless-mesh", Claim: "hidden", Controls: []string{"one-to-one/source-kept"}},
			[]string{meshClaims[1], "stateless-mesh powerdns one-to-one/source-kept control"}},
		// It is derived for the global service: only the mesh can contradict it.
		{"a control where it is none", Selection{Controls: []string{"one-to-one/source-kept"}},
			[]string{"stateless-mesh powerdns one-to-one/source-kept control"}},
		{"two controls", Selection{Scenario: "global", Controls: []string{"mesh/balances", "mesh/source-hidden"}},
			[]string{"stateless-global powerdns mesh/source-hidden control", "stateless-global powerdns mesh/balances control"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := NewPlan(test.sel, 3)
			if err != nil {
				t.Fatal(err)
			}
			if got := listing(p); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(test.want, "\n  "))
			}
			if p.Count() != len(test.want) {
				t.Errorf("the plan counts %d claims, there are %d", p.Count(), len(test.want))
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
		{"no such claim", Selection{Scenario: "global", Claim: "mesh"}, []string{`--claim "mesh"`, "one-to-one/every-host-has-one, one-to-one/local-task-answers, one-to-one/source-kept"}},
		{"bad scenario", Selection{Scenario: "("}, []string{"--scenario", `"("`, "regular expression"}},
		{"bad claim", Selection{Claim: "[z-a]"}, []string{"--claim", `"[z-a]"`, "regular expression"}},
		{"no such control", Selection{Controls: []string{"mesh/nonsense"}}, []string{`"mesh/nonsense"`, "mesh/balances", "internal/not-exposed"}},
		{"a control is no expression", Selection{Controls: []string{"source"}}, []string{`"source"`}},
		{"a derived control", Selection{Scenario: "global", Controls: []string{"one-to-one/source-kept"}}, []string{"--control one-to-one/source-kept"}},
		{"a control that nothing can show", Selection{Controls: []string{"internal/not-exposed"}}, []string{"--control internal/not-exposed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := NewPlan(test.sel, 3)
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
		if seen[c.ID] || c.Text == "" || c.Guide == "" || c.Axes == "" {
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

// A claim that a place on the axes does not derive says what it is for and what
// differs.
func TestWhyNot(t *testing.T) {
	for _, c := range Claims() {
		for _, b := range []recipe.Balance{recipe.Singleton, recipe.Scalable, recipe.Global} {
			for _, p := range []recipe.Publish{recipe.Internal, recipe.Mesh, recipe.OneToOne, recipe.VirtualIP} {
				a := recipe.Axes{Balance: b, Volume: recipe.Stateless, Publish: p}
				why := c.WhyNot(a)
				if c.Applies(a) != (why == "") {
					t.Errorf("%s applies to %v: %v, and yet %q", c.ID, a, c.Applies(a), why)
				}
				if differs := string(p); why != "" && !strings.HasSuffix(why, differs) && !strings.HasSuffix(why, string(b)) {
					t.Errorf("%s and %v: %q", c.ID, a, why)
				}
			}
		}
	}
	balances := claims[2]
	for want, a := range map[string]recipe.Axes{
		"is for mesh + scalable, and this service is singleton":              {Balance: recipe.Singleton, Publish: recipe.Mesh},
		"is for mesh + scalable, and this service is internal and singleton": {Balance: recipe.Singleton, Publish: recipe.Internal},
		"": {Balance: recipe.Scalable, Publish: recipe.Mesh},
	} {
		if got := balances.WhyNot(a); got != want {
			t.Errorf("%s and %v: %q, want %q", balances.ID, a, got, want)
		}
	}
}
