package scenarios

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

var threeHosts = Facts{Hosts: 3, Managers: 3, Power: true, Networks: 3, Outside: true}

func own(definitions string) Scenario {
	return Scenario{ID: "own", Recipe: "own.yml", Workload: Agent,
		Sources: []Source{{Path: "own.yml", Text: []byte("plugin: hive_services\nservices:\n" + definitions)}}}
}

const twoReplicas = "  web: {image: nginx, replicas: 2, ports: ['80:80']}\n"

// A scenario that forbids a fault skips the claims that hang on nothing else, and
// the fault is not injected for the others either.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		faults  []string
		skipped string // claims, of those that need faults
		acts    []act  // that break something
	}{
		{nil, "", []act{actTaskLoss, actHostLoss, actLeaderLoss}},
		{[]string{}, "mesh/survives-task-loss: the scenario allows no task-loss; mesh/survives-host-loss: the scenario allows no host-loss and no leader-loss", nil},
		{[]string{"task-loss"}, "mesh/survives-host-loss: the scenario allows no host-loss and no leader-loss", []act{actTaskLoss}},
		{[]string{"leader-loss"}, "mesh/survives-task-loss: the scenario allows no task-loss", []act{actLeaderLoss}},
	} {
		s := own(twoReplicas)
		s.Faults = test.faults
		// As it comes out of the supervisor's socket.
		text, err := json.Marshal(Selection{Own: []Scenario{s}})
		if err != nil {
			t.Fatal(err)
		}
		var sel Selection
		if err := json.Unmarshal(text, &sel); err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(sel, threeHosts)
		if err != nil {
			t.Fatal(err)
		}
		var skipped []string
		for _, in := range p.Scenarios[0].Claims {
			if in.Skip != "" {
				skipped = append(skipped, in.Claim.ID+": "+in.Skip)
			}
		}
		if got := strings.Join(skipped, "; "); got != test.skipped {
			t.Errorf("%v: skipped %q, want %q", test.faults, got, test.skipped)
		}
		breaking := slices.DeleteFunc(p.Scenarios[0].acts(), func(a act) bool { return !slices.Contains(faults, a) })
		if len(breaking)+len(test.acts) > 0 && !reflect.DeepEqual(breaking, test.acts) {
			t.Errorf("%v: %v, want %v", test.faults, breaking, test.acts)
		}
	}
	// A client that falls back sees the loss of a host.
	s := own("  web: {image: nginx, mode: global, ports: [{target_port: 80, published_port: 80, mode: host}]}\n")
	s.Faults = []string{"task-loss", "leader-loss"}
	p, err := NewPlan(Selection{Own: []Scenario{s}, Claim: "fallback"}, threeHosts)
	if err != nil || p.Scenarios[0].Claims[0].Skip != "the scenario allows no host-loss" || len(p.Scenarios[0].acts()) > 0 {
		t.Errorf("%v, %+v", err, p)
	}
}

func TestParams(t *testing.T) {
	s := own(twoReplicas + "  api: {image: nginx, replicas: 2, ports: ['81:81']}\n")
	s.Claims = []ClaimRef{
		{ID: "mesh/survives-task-loss", Service: "api", Params: map[string]string{"max_outage": "5s"}},
		{ID: "mesh/survives-task-loss", Params: map[string]string{"max_outage": "9s"}},
		{ID: "mesh/balances", Service: "web"},
	}
	p, err := NewPlan(Selection{Own: []Scenario{s}}, threeHosts)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, in := range p.Scenarios[0].Claims {
		got = append(got, in.Service+" "+in.Claim.ID+" "+in.Params["max_outage"])
	}
	// What is said of one service wins, wherever it stands; a named claim leaves the others out.
	if want := []string{"web mesh/balances ", "web mesh/survives-task-loss 9s", "api mesh/survives-task-loss 5s"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, test := range []struct {
		def, value string
		ok         bool
	}{
		{"60s", "1m30s", true}, {"60s", "30", false}, {"60s", "0s", false}, {"60s", "", false},
		{"8", "12", true}, {"8", "0", true}, {"8", "-1", false}, {"8", "8s", false}, {"8", "1.5", false},
	} {
		if err := (Param{Name: "p", Default: test.def}).Check(test.value); (err == nil) != test.ok {
			t.Errorf("%q for %q: %v", test.value, test.def, err)
		}
	}
	// Everything that a claim has as a parameter can be checked.
	for _, c := range Claims() {
		for _, p := range c.Params {
			if err := p.Check(p.Default); err != nil {
				t.Errorf("%s: %v", c.ID, err)
			}
		}
	}
}

func TestOwnSelection(t *testing.T) {
	s := own(twoReplicas)
	s.Images = recipe.TagMapping{"nginx": "a", "other": "b"}
	p, err := NewPlan(Selection{Own: []Scenario{s}, Images: recipe.TagMapping{"nginx": "c"}}, threeHosts)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Scenarios[0].Scenario.Images, (recipe.TagMapping{"nginx": "c", "other": "b"}); !reflect.DeepEqual(got, want) || s.Images["nginx"] != "a" {
		t.Errorf("images %v, want %v", got, want)
	}

	// What the stage does not have needs no values.
	s = own(twoReplicas + "  job: {image: nginx, replicas: '{{ n }}', available_on: [private]}\n")
	if _, err := NewPlan(Selection{Own: []Scenario{s}}, threeHosts); err == nil || !strings.Contains(err.Error(), "own.yml:4:33: {{ n }} has no value") {
		t.Errorf("%v", err)
	}
	s.Stage = "production"
	if p, err := NewPlan(Selection{Own: []Scenario{s}}, threeHosts); err != nil || p.Scenarios[0].Recipe.Service("job") != nil {
		t.Errorf("%v", err)
	}

	// A virtual IP derives nothing yet.
	s = own("  web: {image: nginx, ports: [{target_port: 80, published_port: 80, mode: host}]}\n")
	if _, err := NewPlan(Selection{Own: []Scenario{s}}, threeHosts); err == nil || !strings.Contains(err.Error(), "no claim is derived for the services of: own") {
		t.Errorf("%v", err)
	}
}
