package probes

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hiveproof/hiveproof/reports"
)

// ResolvesToTasks checks internal/resolves-to-tasks: a service's name gives, inside
// containers, exactly the addresses of its running tasks (dnsrr), or its virtual ones
// and no others than its tasks' beside them (vip): the guide's section 内部サービス says
// that the real addresses come with it, for hive-builder gives tasks their service's name.
func ResolvesToTasks(r Resolution) Judgement {
	want, what := r.Tasks, "the running tasks' addresses"
	if r.Mode == "vip" {
		want, what = r.VIPs, "the service's virtual address"
	}
	m := map[string]any{"mode": r.Mode, "tasks": r.Tasks, "virtual": r.VIPs, "lookups": r.Lookups}
	if len(r.Lookups) == 0 || len(r.Tasks) == 0 {
		return invalid(m, nil, "%d look-up(s) and %d running task(s): there is nothing to compare", len(r.Lookups), len(r.Tasks))
	}
	if r.Mode != "dnsrr" && r.Mode != "vip" {
		return invalid(m, nil, "%s has the endpoint mode %q: it is not known what it should resolve to", r.Service, r.Mode)
	}
	if len(want) == 0 {
		return invalid(m, nil, "the addresses that %s should resolve to are not known", r.Service)
	}
	for _, l := range r.Lookups {
		if l.Err != "" {
			return failLookup(l, m, "%s on %s could not look %s up: %s", l.Service, l.Node, l.Name, l.Err)
		}
		got := l.Addresses
		if r.Mode == "vip" {
			got = slices.DeleteFunc(slices.Clone(got), func(a netip.Addr) bool { return slices.Contains(r.Tasks, a) })
		}
		if !sameAddrs(got, want) {
			return failLookup(l, m, "%s on %s looked %s up and got %s, which is not %s, %s", l.Service, l.Node, l.Name, addrs(l.Addresses), what, addrs(want))
		}
	}
	reason := fmt.Sprintf("in %d containers %s resolved to exactly %s, %s (%s)", len(r.Lookups), r.Service, what, addrs(want), r.Mode)
	if r.Mode == "vip" {
		reason = fmt.Sprintf("in %d containers %s resolved to %s, %s (vip), or to it and the tasks' own, %s", len(r.Lookups), r.Service, what, addrs(want), addrs(r.Tasks))
	}
	return Judgement{Verdict: reports.Pass, Measurements: m, Samples: lookupSamples(r.Lookups, false), Reason: reason}
}

func failLookup(l Lookup, m map[string]any, format string, args ...any) Judgement {
	return Judgement{reports.Fail, fmt.Sprintf(format, args...), m, lookupSamples([]Lookup{l}, true)}
}

func lookupSamples(all []Lookup, counter bool) []reports.Sample {
	var samples []reports.Sample
	for _, l := range all[:min(len(all), maxSamples)] {
		s := reports.Sample{Client: l.Service + " on " + l.Node, Target: "look-up of " + l.Name, Outcome: string(Answered), Server: addrs(l.Addresses), Counter: counter}
		if l.Err != "" {
			s.Outcome, s.Server = string(Failed), l.Err
		}
		samples = append(samples, s)
	}
	return samples
}

func sameAddrs(a, b []netip.Addr) bool {
	sorted := func(all []netip.Addr) []netip.Addr {
		return slices.Compact(slices.SortedFunc(slices.Values(all), netip.Addr.Compare))
	}
	return slices.Equal(sorted(a), sorted(b))
}

func addrs(all []netip.Addr) string {
	if len(all) == 0 {
		return "nothing"
	}
	var texts []string
	for _, a := range slices.SortedFunc(slices.Values(all), netip.Addr.Compare) {
		texts = append(texts, a.String())
	}
	return list(texts)
}

// minNetworks is how many networks must have asked each host: with fewer there is
// nobody to tell apart.
const minNetworks = 2

// viewsTrouble says why views show nothing; empty if they may.
func viewsTrouble(views []View) string {
	all, byHost := map[string]bool{}, map[string]map[string]bool{}
	for _, v := range views {
		switch v.Outcome {
		case Aborted, Failed:
			return fmt.Sprintf("%s could not ask %s: %s", v.Client.Name, v.Host, v.Err)
		case TimedOut: // a datagram may be lost, which says nothing of views
			return fmt.Sprintf("%s got no answer from %s: %s", v.Client.Name, v.Host, v.Err)
		}
		if byHost[v.Host] == nil {
			byHost[v.Host] = map[string]bool{}
		}
		all[v.Want], byHost[v.Host][v.Want] = true, true
	}
	if len(all) < minNetworks {
		return fmt.Sprintf("clients of %d network(s) asked: %d are needed", len(all), minNetworks)
	}
	for _, host := range sortedKeys(byHost) {
		if len(byHost[host]) < minNetworks {
			return fmt.Sprintf("%s was asked by clients of %d network(s): %d are needed", host, len(byHost[host]), minNetworks)
		}
	}
	return ""
}

// got is a view's answers as text.
func (v View) got() string {
	if len(v.Answers) == 0 {
		return "nothing"
	}
	return list(v.Answers)
}

func viewMeasurements(views []View) map[string]any {
	got := map[string][]string{}
	for _, v := range views {
		got[v.Client.Name+" at "+v.Host] = v.Answers
	}
	return map[string]any{"answers": got}
}

func viewSamples(all []View, counter bool) []reports.Sample {
	var samples []reports.Sample
	for _, v := range all[:min(len(all), maxSamples)] {
		s := reports.Sample{Client: v.Client.Name + " " + v.Client.Addr.String(), Target: v.Host + " " + v.Name, Outcome: string(v.Outcome), Server: v.got(), Counter: counter}
		if v.Err != "" {
			s.Server = v.Err
		}
		samples = append(samples, s)
	}
	return samples
}

// ViewsDiffer checks one-to-one/views: a server that answers by the client's
// address gives each client the answer of its own network.
func ViewsDiffer(views []View) Judgement {
	m := viewMeasurements(views)
	for _, v := range views {
		if v.Outcome == Answered && !slices.Equal(v.Answers, []string{v.Want}) {
			return Judgement{reports.Fail, fmt.Sprintf("%s (%s) asked %s for %s and got %s, the answer for its network is %s",
				v.Client.Name, v.Client.Addr, v.Host, v.Name, v.got(), v.Want), m, viewSamples([]View{v}, true)}
		}
	}
	if why := viewsTrouble(views); why != "" {
		return Judgement{reports.Invalid, why, m, viewSamples(views, false)}
	}
	for _, v := range views {
		if v.Outcome != Answered {
			return Judgement{reports.Fail, fmt.Sprintf("%s asked %s for %s: %s %s", v.Client.Name, v.Host, v.Name, v.Outcome, v.Err), m, viewSamples([]View{v}, true)}
		}
	}
	return Judgement{reports.Pass, fmt.Sprintf("all %d questions were answered by the client's own network", len(views)), m, viewSamples(views, false)}
}

// ViewsSame checks mesh/no-views: behind the mesh all clients of a host get the
// same answer, for the server cannot tell them apart.
func ViewsSame(views []View) Judgement {
	m := viewMeasurements(views)
	hosts := map[string]bool{}
	var alike []View // of one network, and yet they differ
	for i, v := range views {
		hosts[v.Host] = true
		for _, other := range views[:i] {
			if other.Host != v.Host || other.Outcome != Answered || v.Outcome != Answered || slices.Equal(other.Answers, v.Answers) {
				continue
			}
			if other.Want == v.Want {
				alike = []View{other, v}
				continue
			}
			return Judgement{reports.Fail, fmt.Sprintf("on %s the server told clients apart: %s got %s, %s got %s",
				v.Host, other.Client.Name, other.got(), v.Client.Name, v.got()), m, viewSamples([]View{other, v}, true)}
		}
	}
	if len(alike) > 0 {
		return Judgement{reports.Invalid, fmt.Sprintf("on %s %s got %s and %s got %s, which are in one network: the answer does not go by the client's",
			alike[0].Host, alike[0].Client.Name, alike[0].got(), alike[1].Client.Name, alike[1].got()), m, viewSamples(alike, false)}
	}
	if why := viewsTrouble(views); why != "" {
		return Judgement{reports.Invalid, why, m, viewSamples(views, false)}
	}
	for _, v := range views {
		if v.Outcome != Answered || len(v.Answers) == 0 {
			return Judgement{reports.Invalid, fmt.Sprintf("%s got no answer from %s: %s %s", v.Client.Name, v.Host, v.Outcome, v.Err), m, viewSamples([]View{v}, false)}
		}
	}
	return Judgement{reports.Pass, fmt.Sprintf("on each of %d hosts all clients got the same answer, whatever network they are in", len(hosts)), m, viewSamples(views, false)}
}
