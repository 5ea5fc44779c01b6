package probes

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Published is what was seen of a service's published ports.
type Published struct {
	Clients   []Client
	Endpoints []Endpoint // each port on every host
	Exchanges []Exchange
}

// maxUDPLoss is the share of datagrams that may get no answer: UDP promises
// none, but a client that asks again must be served.
const maxUDPLoss = 0.05

// EveryHostAnswers checks mesh/every-host-answers: each port answers on every
// host. withTask are the hosts that run a task of the service: the claim is
// about the others above all.
func EveryHostAnswers(p Published, hosts, withTask []string) Judgement {
	var without []string
	for _, h := range hosts {
		if !slices.Contains(withTask, h) {
			without = append(without, h)
		}
	}
	measurements := map[string]any{
		"exchanges": len(p.Exchanges), "outcomes": outcomes(p.Exchanges), "hosts_without_a_task": without,
	}
	if len(hosts) == 0 || len(p.Clients) == 0 || len(p.Endpoints) == 0 || len(p.Exchanges) == 0 {
		return invalid(measurements, nil, "nothing was asked")
	}
	for _, h := range hosts {
		if !slices.ContainsFunc(p.Endpoints, func(e Endpoint) bool { return e.Host == h }) {
			return invalid(measurements, nil, "%s was not asked", h)
		}
	}
	if bad := untrusted(p.Exchanges); len(bad) > 0 {
		return invalid(measurements, bad, "%d of %d exchanges could not be made: %s", len(bad), len(p.Exchanges), describe(bad[0]))
	}
	g := grid(p.Exchanges)
	var short, silent []string
	var against, lost []Exchange
	for _, at := range wanted(p.Clients, p.Endpoints) {
		all := g[at]
		if len(all) < minAnswers {
			short = append(short, fmt.Sprintf("%s: %d", at, len(all)))
			continue
		}
		if len(answered(all)) == 0 {
			silent = append(silent, at.String())
			against = append(against, all...)
			continue
		}
		for _, x := range all {
			switch {
			case x.Outcome == Answered:
			case x.Endpoint.Proto == "udp" && x.Outcome == TimedOut:
				lost = append(lost, x)
			default:
				against = append(against, x)
			}
		}
	}
	udp := 0
	for _, x := range p.Exchanges {
		if x.Endpoint.Proto == "udp" {
			udp++
		}
	}
	measurements["udp_unanswered"] = len(lost)
	switch {
	case len(silent) > 0:
		return fail(against, measurements, "no answer at all for %s; %s", list(silent), describe(against[0]))
	case len(against) > 0:
		return fail(against, measurements, "%d of %d exchanges were not answered: %s", len(against), len(p.Exchanges), describe(against[0]))
	case float64(len(lost)) > maxUDPLoss*float64(udp):
		return fail(lost, measurements, "%d of %d UDP questions got no answer, more than %.0f %%: %s", len(lost), udp, maxUDPLoss*100, describe(lost[0]))
	case len(short) > 0:
		return invalid(measurements, nil, "fewer than %d exchanges of %s", minAnswers, list(short))
	}
	if len(withTask) == 0 {
		return invalid(measurements, answered(p.Exchanges), "everything was answered although no task was seen to run: the site changed while it was observed")
	}
	reason := fmt.Sprintf("all %d exchanges of %d clients with %d hosts were answered", len(p.Exchanges), len(p.Clients), len(hosts))
	if len(lost) > 0 {
		reason = fmt.Sprintf("%d of %d exchanges of %d clients with %d hosts were answered (%d UDP questions got no answer, within %.0f %%)",
			len(p.Exchanges)-len(lost), len(p.Exchanges), len(p.Clients), len(hosts), len(lost), maxUDPLoss*100)
	}
	if len(without) > 0 {
		reason += ", also on " + strings.Join(without, ", ") + ", where no task runs"
	} else {
		reason += `; every host runs a task, so "also where no task runs" was not put to the test`
	}
	return pass(p.Exchanges, measurements, "%s", reason)
}

// SourceHidden checks mesh/source-hidden: the container sees the ingress address
// of the host that was asked (Swarm's mesh translates the source, docker/libnetwork
// ingress sandbox). ingress has that address of every host.
func SourceHidden(p Published, ingress map[string]netip.Addr) Judgement {
	got := answered(p.Exchanges)
	measurements := map[string]any{"answers": len(got), "sources_seen": sources(got), "ingress_addresses": ingress}
	for _, e := range p.Endpoints {
		if !ingress[e.Host].IsValid() {
			return invalid(measurements, nil, "the ingress address of %s is not known", e.Host)
		}
	}
	for _, x := range got {
		if !ingress[x.Endpoint.Host].IsValid() {
			return invalid(measurements, []Exchange{x}, "the ingress address of %s is not known", x.Endpoint.Host)
		}
	}
	var against []Exchange
	own := 0
	for _, x := range got {
		if x.Answer.Source.Addr() != ingress[x.Endpoint.Host] {
			against = append(against, x)
			if x.Answer.Source.Addr() == x.Client.Addr {
				own++
			}
		}
	}
	if len(against) > 0 {
		x := against[0]
		reason := fmt.Sprintf("in %d of %d answers the container saw another address than the ingress address of the host that was asked: %s asked %s, expected %s, seen %s",
			len(against), len(got), clientText(x.Client), x.Endpoint.Host, ingress[x.Endpoint.Host], x.Answer.Source.Addr())
		if own > 0 {
			reason += fmt.Sprintf("; in %d it was the client's own address", own)
		}
		return fail(against, measurements, "%s", reason)
	}
	if why := enough(p.Exchanges, p.Clients, p.Endpoints); why != "" {
		return invalid(measurements, p.Exchanges, "%s", why)
	}
	return pass(got, measurements, "in all %d answers the container saw the ingress address of the host that was asked (%s), and never the client's",
		len(got), addressList(ingress))
}

func addressList(m map[string]netip.Addr) string {
	var all []string
	for host, a := range m {
		all = append(all, host+" "+a.String())
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func clientText(c Client) string { return fmt.Sprintf("client %s %s", c.Name, c.Addr) }

// The expected spread: IPVS hands connections out in turn, so each replica's
// share is its fair one but for the remainder of each entry host's own round.
// That round is one for all ports of a service on a host (they share a firewall
// mark), so ports must be asked one after another, not alternately.
// Half to one and a half times the fair share allows for that and for a few
// lost datagrams, and catches any replica that is left out or preferred.
const (
	leastShare, mostShare = 0.5, 1.5
	// answersPerReplica is how many are needed of each protocol to judge the spread.
	answersPerReplica = 10
)

// Balances checks mesh/balances: over fresh connections every replica serves,
// each within half to one and a half times its fair share, for each port. tasks
// are the IDs of the tasks that run. A client's own share is not judged: the
// clients of one host take turns in its rotation, so one of them may well meet
// the same replica every time while the mesh is perfectly even.
func Balances(p Published, tasks []string) Judgement {
	got := answered(p.Exchanges)
	counts := map[string]map[string]int{} // port -> task -> answers
	for _, e := range p.Endpoints {
		if counts[portOf(e)] == nil {
			counts[portOf(e)] = map[string]int{}
			for _, t := range tasks {
				counts[portOf(e)][t] = 0
			}
		}
	}
	measurements := map[string]any{"answers": len(got), "replicas": len(tasks), "answers_by_port_and_task": counts}
	if len(tasks) < 2 {
		return invalid(measurements, nil, "%d task(s) run: there is nothing to balance over", len(tasks))
	}
	totals := map[string]int{}
	for _, x := range got {
		if !slices.Contains(tasks, x.Answer.Task) {
			return invalid(measurements, []Exchange{x}, "task %s answered, which is none of the service's running tasks: the site changed while it was observed",
				shortTask(x.Answer.Task))
		}
		port := portOf(x.Endpoint)
		if counts[port] == nil {
			return invalid(measurements, []Exchange{x}, "an answer from a port that is none of the service's: %s", port)
		}
		counts[port][x.Answer.Task]++
		totals[port]++
	}
	if bad := untrusted(p.Exchanges); len(bad) > 0 {
		return invalid(measurements, bad, "%d of %d exchanges could not be made: %s", len(bad), len(p.Exchanges), describe(bad[0]))
	}
	if len(counts) == 0 {
		return invalid(measurements, nil, "nothing was asked")
	}
	var off []string
	most := map[[2]string]bool{} // port and task served above its share
	short := map[string]bool{}   // ports with a task below its share
	for _, port := range sortedKeys(counts) {
		total := totals[port]
		if need := answersPerReplica * len(tasks); total < need {
			return invalid(measurements, nil, "%d answers on %s, %d are needed for %d replicas", total, port, need, len(tasks))
		}
		fair := float64(total) / float64(len(tasks))
		for _, t := range sortedKeys(counts[port]) {
			n := float64(counts[port][t])
			most[[2]string{port, t}] = n > fair
			if n < leastShare*fair || n > mostShare*fair {
				short[port] = true
				off = append(off, fmt.Sprintf("task %s served %d of %d on %s (fair share %.0f)", shortTask(t), counts[port][t], total, port, fair))
			}
		}
	}
	if len(off) > 0 {
		// What a starved replica did not serve shows in the answers of the others.
		against := slices.DeleteFunc(got, func(x Exchange) bool {
			port := portOf(x.Endpoint)
			return !short[port] || !most[[2]string{port, x.Answer.Task}]
		})
		return fail(against, measurements, "outside half to one and a half times the fair share: %s", list(off))
	}
	if why := enough(p.Exchanges, p.Clients, p.Endpoints); why != "" {
		return invalid(measurements, p.Exchanges, "%s", why)
	}
	return pass(got, measurements, "each of %d replicas served its share of %d answers, within half to one and a half times the fair one: %s",
		len(tasks), len(got), shares(counts))
}

func shares(counts map[string]map[string]int) string {
	var all []string
	for _, port := range sortedKeys(counts) {
		var each []string
		for _, t := range sortedKeys(counts[port]) {
			each = append(each, fmt.Sprint(counts[port][t]))
		}
		all = append(all, port+" "+strings.Join(each, ":"))
	}
	return strings.Join(all, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
