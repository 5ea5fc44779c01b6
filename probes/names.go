package probes

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hiveproof/hiveproof/reports"
)

// ResolvesToTasks checks internal/resolves-to-tasks: a service's name gives, inside
// containers, exactly the addresses of its running tasks (dnsrr), or exactly its
// virtual ones (vip).
func ResolvesToTasks(r Resolution) Judgement {
	want, what := r.Tasks, "the running tasks' addresses"
	if r.Mode == "vip" {
		want, what = r.VIPs, "the service's virtual address"
	}
	m := map[string]any{"mode": r.Mode, "tasks": r.Tasks, "virtual": r.VIPs, "lookups": r.Lookups}
	if len(r.Lookups) == 0 || len(r.Tasks) == 0 {
		return invalid(m, nil, "%d look-up(s) and %d running task(s): there is nothing to compare", len(r.Lookups), len(r.Tasks))
	}
	if len(want) == 0 {
		return invalid(m, nil, "the addresses that %s should resolve to are not known", r.Service)
	}
	for _, l := range r.Lookups {
		if l.Err != "" {
			return failLookup(l, m, "%s on %s could not look %s up: %s", l.Service, l.Node, l.Name, l.Err)
		}
		if !sameAddrs(l.Addresses, want) {
			return failLookup(l, m, "%s on %s looked %s up and got %s, which is not %s, %s", l.Service, l.Node, l.Name, addrs(l.Addresses), what, addrs(want))
		}
	}
	return Judgement{Verdict: reports.Pass, Measurements: m, Samples: lookupSamples(r.Lookups, false),
		Reason: fmt.Sprintf("in %d containers %s resolved to exactly %s, %s (%s)", len(r.Lookups), r.Service, what, addrs(want), r.Mode)}
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

// viewsTrouble says why views show nothing; empty if they may.
func viewsTrouble(views []View) string {
	wants := map[string]bool{}
	for _, v := range views {
		if v.Outcome == Aborted || v.Outcome == Failed {
			return fmt.Sprintf("%s could not ask %s: %s", v.Client.Name, v.Host, v.Err)
		}
		wants[v.Want] = true
	}
	if len(wants) < 2 {
		return fmt.Sprintf("clients of %d network(s) asked: two are needed", len(wants))
	}
	return ""
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
		s := reports.Sample{Client: v.Client.Name + " " + v.Client.Addr.String(), Target: v.Host + " " + v.Name, Outcome: string(v.Outcome), Server: list(v.Answers), Counter: counter}
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
				v.Client.Name, v.Client.Addr, v.Host, v.Name, list(v.Answers), v.Want), m, viewSamples([]View{v}, true)}
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
	first := map[string]View{}
	for _, v := range views {
		if v.Outcome != Answered {
			continue
		}
		other, seen := first[v.Host]
		if !seen {
			first[v.Host] = v
			continue
		}
		if !slices.Equal(other.Answers, v.Answers) {
			return Judgement{reports.Fail, fmt.Sprintf("on %s the server told clients apart: %s got %s, %s got %s",
				v.Host, other.Client.Name, list(other.Answers), v.Client.Name, list(v.Answers)), m, viewSamples([]View{other, v}, true)}
		}
	}
	if why := viewsTrouble(views); why != "" {
		return Judgement{reports.Invalid, why, m, viewSamples(views, false)}
	}
	for _, v := range views {
		if v.Outcome != Answered || len(v.Answers) == 0 {
			return Judgement{reports.Invalid, fmt.Sprintf("%s got no answer from %s: %s %s", v.Client.Name, v.Host, v.Outcome, v.Err), m, viewSamples([]View{v}, false)}
		}
	}
	return Judgement{reports.Pass, fmt.Sprintf("on each of %d hosts all clients got the same answer, whatever network they are in", len(first)), m, viewSamples(views, false)}
}
