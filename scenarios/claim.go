package scenarios

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/probes"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// Claim is a sentence of the guide that a machine can check.
type Claim struct {
	ID    string
	Text  string
	Guide string // the guide's section that makes it
	// Params are what a scenario file may set, with their defaults.
	Params []Param

	when []condition // what it applies to; all must hold
	// judgeable says whether there is anything to judge on a service that does not
	// derive it (a negative control).
	judgeable func(Place) bool
	needs     []need
	acts      []act
	judge     func(*Observations, Instance) probes.Judgement
}

// Param is a number or a duration in a claim that a scenario file may set.
type Param struct {
	Name    string
	Default string // its form says what it is: "30s" is a duration, "8" an integer
	Text    string
}

// Place is where a service stands: on the axes, and towards a load balancer.
type Place struct {
	recipe.Axes
	// InternalPorts: it publishes ports of 10000 and above, which the guide marks
	// as not for the outside.
	InternalPorts bool
	// Behind is the load balancer that stands before the service, as the scenario
	// declares it; nil if there is none.
	Behind *Front
	// Balances: the service is itself the built-in load balancer of another one.
	Balances bool
	// Views: its answers depend on the client's address, as the scenario declares.
	Views bool
}

// placeOf says where a service stands in a scenario.
func placeOf(s Scenario, svc *recipe.Service, hosts int) Place {
	p := Place{Axes: recipe.Classify(svc, hosts), Views: s.Views == svc.Name && svc.Name != ""}
	for _, port := range svc.Ports {
		p.InternalPorts = p.InternalPorts || port.Published >= firstInternalPort
	}
	if f := s.Front; f != nil {
		if f.Service == svc.Name {
			p.Behind = f
		}
		p.Balances = f.Proxy == svc.Name && f.Proxy != ""
	}
	return p
}

// firstInternalPort is the lowest of the port numbers by which the guide marks
// ports as not published to the outside (スティッキー対応内蔵ロードバランサ).
const firstInternalPort = 10000

// condition is a place that a claim applies to.
type condition struct {
	name  string
	holds func(Place) bool
	is    func(Place) string // what the service is instead
}

// The conditions.
var (
	isMesh     = axis("mesh", func(p Place) string { return string(p.Publish) })
	isOneToOne = axis("one-to-one", func(p Place) string { return string(p.Publish) })
	isInternal = axis("internal", func(p Place) string { return string(p.Publish) })
	isScalable = axis("scalable", func(p Place) string { return string(p.Balance) })
	isHighPort = condition{"ports of 10000 and above", func(p Place) bool { return p.InternalPorts }, func(Place) string { return "without such ports" }}
	isBehind   = condition{"behind a load balancer", func(p Place) bool { return p.Behind != nil }, func(Place) string { return "behind none that the scenario declares" }}
	isSticky   = condition{"sticky", func(p Place) bool { return p.Behind != nil && p.Behind.Sticky }, func(Place) string { return "without stickiness" }}
	notSticky  = condition{"not sticky", func(p Place) bool { return p.Behind == nil || !p.Behind.Sticky }, func(Place) string { return "sticky" }}
	isBuiltIn  = condition{"behind a built-in load balancer", func(p Place) bool { return p.Behind.builtIn() }, func(Place) string { return "behind no built-in load balancer that the scenario declares" }}
	isBalancer = condition{"a built-in load balancer", func(p Place) bool { return p.Balances }, func(Place) string { return "none that the scenario declares" }}
	hasViews   = condition{"answers by source address", func(p Place) bool { return p.Views }, func(Place) string { return "without, as far as the scenario declares" }}
)

func axis(name string, of func(Place) string) condition {
	return condition{name, func(p Place) bool { return of(p) == name }, of}
}

// Applies says whether a service's place derives the claim.
func (c Claim) Applies(p Place) bool {
	return !slices.ContainsFunc(c.when, func(w condition) bool { return !w.holds(p) })
}

// AppliesTo says what the claim applies to, such as "mesh + scalable".
func (c Claim) AppliesTo() string {
	var names []string
	for _, w := range c.when {
		names = append(names, w.name)
	}
	return strings.Join(names, " + ")
}

// WhyNot says why the place of a service does not derive the claim; empty if it does.
func (c Claim) WhyNot(p Place) string {
	var has []string
	for _, w := range c.when {
		if !w.holds(p) {
			has = append(has, w.is(p))
		}
	}
	if len(has) == 0 {
		return ""
	}
	return fmt.Sprintf("is for %s, and this service is %s", c.AppliesTo(), strings.Join(has, " and "))
}

// need is what a claim needs of the site beyond the deployed service.
type need string

const (
	needsEdge      need = "an edge host in the topology"
	needsPerimeter need = "a perimeter in the topology (site: perimeter)"
	needsPower     need = "a provider that can cut a host's power"
	needsHosts     need = "two hosts at least"
	needsManagers  need = "three managers, so that the swarm outlives the loss of one"
	needsOutside   need = "a client outside the site's segment"
	needsNetworks  need = "clients in two networks"
	needsAgent     need = "the agent in the service's place (--workload agent), or an image that answers like it"
)

// Facts are what is known of a site before anything is deployed.
type Facts struct {
	Hosts     int  // that hold containers
	Managers  int  // of the swarm
	Edge      bool // there is an edge host
	Perimeter bool // the router closes internal ports to the outside
	Power     bool // the provider can cut a host's power
	Networks  int  // that clients are in, the segment included
	Outside   bool // there is a client outside the segment
}

// lacks is the first need that the site does not meet; empty if there is none.
func (f Facts) lacks(needs []need) need {
	for _, n := range needs {
		met := true
		switch n {
		case needsEdge:
			met = f.Edge
		case needsPerimeter:
			met = f.Perimeter
		case needsPower:
			met = f.Power
		case needsHosts:
			met = f.Hosts >= 2
		case needsManagers:
			met = f.Managers >= 3
		case needsOutside:
			met = f.Outside
		case needsNetworks:
			met = f.Networks >= 2
		}
		if !met {
			return n
		}
	}
	return ""
}
