package scenarios

import (
	"slices"

	"github.com/hiveproof/hiveproof/probes"
)

// published is what was seen of a service's published ports: of all ports but those
// that the perimeter closes or, if it closes all of them, from the clients inside.
func (o *Observations) published(service string) probes.Published {
	so := o.Services[service]
	p := probes.Published{Clients: o.Clients, Endpoints: so.Endpoints, Exchanges: so.Published}
	if !o.Perimeter {
		return p
	}
	internal := func(e probes.Endpoint) bool { return e.Addr.Port() >= firstInternalPort }
	outside := func(c probes.Client) bool { return c.Network != "segment" }
	if slices.ContainsFunc(p.Endpoints, func(e probes.Endpoint) bool { return !internal(e) }) {
		p.Endpoints = slices.DeleteFunc(slices.Clone(p.Endpoints), internal)
		p.Exchanges = slices.DeleteFunc(slices.Clone(p.Exchanges), func(x probes.Exchange) bool { return internal(x.Endpoint) })
	} else {
		p.Clients = slices.DeleteFunc(slices.Clone(p.Clients), outside)
		p.Exchanges = slices.DeleteFunc(slices.Clone(p.Exchanges), func(x probes.Exchange) bool { return outside(x.Client) })
	}
	return p
}

// hidden is what was seen of the ports that a service does not publish.
func (o *Observations) hidden(service string) probes.Hidden {
	so := o.Services[service]
	return probes.Hidden{
		Hosts: o.Hosts, Clients: o.Clients, Endpoints: so.Hidden,
		Exchanges: so.Exposure, Listens: so.Listens, Controls: o.controls(),
	}
}

// hostsWithTask are the hosts that run a task of a service.
func (o *Observations) hostsWithTask(service string) []string {
	var hosts []string
	for _, t := range o.running(service) {
		if !slices.Contains(hosts, t.Node) {
			hosts = append(hosts, t.Node)
		}
	}
	return hosts
}

// taskIDs are a service's running tasks.
func (o *Observations) taskIDs(service string) []string {
	var ids []string
	for _, t := range o.running(service) {
		ids = append(ids, t.ID)
	}
	return ids
}

// tasks are a service's tasks as the checkers take them.
func (o *Observations) tasks(service string) []probes.Task {
	var all []probes.Task
	for _, t := range o.Tasks {
		if t.Service == service {
			all = append(all, probes.Task{ID: t.ID, Node: t.Node, Running: t.Running()})
		}
	}
	return all
}

// internalRange is what was seen of those published ports of a service that the
// guide marks as internal.
func (o *Observations) internalRange(service string) probes.Published {
	so := o.Services[service]
	p := probes.Published{Clients: o.Clients, Endpoints: so.Endpoints, Exchanges: so.Published}
	p.Endpoints = slices.DeleteFunc(slices.Clone(p.Endpoints), func(e probes.Endpoint) bool { return e.Addr.Port() < firstInternalPort })
	p.Exchanges = slices.DeleteFunc(slices.Clone(p.Exchanges), func(x probes.Exchange) bool { return x.Endpoint.Addr.Port() < firstInternalPort })
	return p
}

func taskLosses(f probes.Fault) bool { return f.Kind == probes.TaskLoss }
func hostLosses(f probes.Fault) bool { return f.Kind == probes.HostLoss }

// survives judges each loss of a kind on its own; the worst verdict counts.
func survives(o *Observations, in Instance, which func(probes.Fault) bool) probes.Judgement {
	var all []probes.Judgement
	for _, l := range o.Services[in.Service].Losses {
		if which(l.Fault) {
			all = append(all, probes.SurvivesLoss(l, in.duration(maxOutage.Name)))
		}
	}
	return probes.Worst(all)
}
