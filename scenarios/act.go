package scenarios

import "slices"

// act is a part of the observation of a deployed scenario. Claims say which they
// need; the runner does those that any of the selected claims needs, in the order
// of this list: what changes the site comes late, what breaks it last.
type act string

// The acts.
const (
	actAsk        act = "ask"         // every client asks every port
	actNames      act = "names"       // names are looked up from inside containers
	actViews      act = "views"       // clients in different networks ask for the same name
	actVisit      act = "visit"       // visitors with sessions come through the load balancer
	actReload     act = "reload"      // the built-in load balancer gets a new configuration
	actScale      act = "scale"       // replicas are added and removed
	actTaskLoss   act = "task-loss"   // a container is killed
	actHostLoss   act = "host-loss"   // a host that does not lead loses its power
	actFallback   act = "fallback"    // the same, and clients have the addresses of all hosts
	actLeaderLoss act = "leader-loss" // the leader loses its power
)

var actOrder = []act{actAsk, actNames, actViews, actVisit, actReload, actScale, actTaskLoss, actHostLoss, actFallback, actLeaderLoss}

// faults are the acts that break something.
var faults = []act{actTaskLoss, actHostLoss, actFallback, actLeaderLoss}

// fault is what an act injects, as scenarios name it.
func (a act) fault() string {
	if a == actFallback {
		a = actHostLoss // clients ask in another way, but it is a host that is lost
	}
	return string(a)
}

// Faults are the names of what Scenario.Faults may hold.
func Faults() (names []string) {
	for _, a := range faults {
		if f := a.fault(); !slices.Contains(names, f) {
			names = append(names, f)
		}
	}
	return names
}

// allows says whether an act may be done: one that breaks nothing always may.
func (s Scenario) allows(a act) bool {
	return s.Faults == nil || !slices.Contains(faults, a) || slices.Contains(s.Faults, a.fault())
}

// forbids are the faults that a claim hangs on, if the scenario allows none of them.
func (s Scenario) forbids(c Claim) (names []string) {
	for _, a := range c.acts {
		switch {
		case !slices.Contains(faults, a):
		case s.allows(a):
			return nil
		default:
			names = append(names, a.fault())
		}
	}
	return names
}

// acts are those that the planned claims need and the scenario allows, in order.
func (p Planned) acts() []act {
	return slices.DeleteFunc(slices.Clone(actOrder), func(a act) bool {
		return !p.Scenario.allows(a) || !slices.ContainsFunc(p.Claims, func(in Instance) bool {
			return in.Skip == "" && slices.Contains(in.Claim.acts, a)
		})
	})
}
