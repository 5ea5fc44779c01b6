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

// acts are those that the planned claims need, in order.
func (p Planned) acts() []act {
	return slices.DeleteFunc(slices.Clone(actOrder), func(a act) bool {
		return !slices.ContainsFunc(p.Claims, func(in Instance) bool {
			return in.Skip == "" && slices.Contains(in.Claim.acts, a)
		})
	})
}
