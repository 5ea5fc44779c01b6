package probes

import (
	"fmt"
	"slices"
	"strings"
)

// Task is a task of a service that runs, or should.
type Task struct {
	ID, Node string
	Running  bool
}

// EveryHostHasOne checks one-to-one/every-host-has-one: exactly one task runs on
// each host and none elsewhere.
func EveryHostHasOne(hosts []string, tasks []Task) Judgement {
	perHost := map[string]int{}
	elsewhere := 0
	for _, h := range hosts {
		perHost[h] = 0
	}
	for _, t := range tasks {
		if !t.Running {
			continue
		}
		if _, known := perHost[t.Node]; known {
			perHost[t.Node]++
		} else {
			elsewhere++
		}
	}
	measurements := map[string]any{"tasks_by_host": perHost}
	if len(hosts) == 0 || len(tasks) == 0 {
		return invalid(measurements, nil, "no hosts or no tasks were observed")
	}
	var wrong []string
	for _, h := range hosts {
		if perHost[h] != 1 {
			wrong = append(wrong, fmt.Sprintf("%s runs %d", h, perHost[h]))
		}
	}
	if elsewhere > 0 {
		wrong = append(wrong, fmt.Sprintf("%d run on no host of this site", elsewhere))
	}
	if len(wrong) > 0 {
		return fail(nil, measurements, "not one task on each host: %s", strings.Join(wrong, ", "))
	}
	return pass(nil, measurements, "one task runs on each of %s", strings.Join(hosts, ", "))
}

// SourceKept checks one-to-one/source-kept: the container sees the client's own
// address, over every protocol, from every client.
func SourceKept(p Published) Judgement {
	got := answered(p.Exchanges)
	ports := 0
	var against []Exchange
	for _, x := range got {
		if !x.Client.Addr.IsValid() {
			return invalid(map[string]any{"answers": len(got)}, []Exchange{x}, "the address of client %s is not known", x.Client.Name)
		}
		if x.Answer.Source.Addr() != x.Client.Addr {
			against = append(against, x)
		} else if x.Answer.Source == x.LocalAddr {
			ports++
		}
	}
	measurements := map[string]any{"answers": len(got), "sources_seen": sources(got), "port_kept": ports}
	if len(against) > 0 {
		var seen []string
		for _, x := range spread(against) {
			text := fmt.Sprintf("%s instead of %s at %s", x.Answer.Source.Addr(), clientText(x.Client), x.Endpoint.Host)
			if !slices.Contains(seen, text) {
				seen = append(seen, text)
			}
		}
		return fail(against, measurements, "in %d of %d answers the container did not see the client's address; it saw %s", len(against), len(got), list(seen))
	}
	if why := enough(p.Exchanges, p.Clients, p.Endpoints); why != "" {
		return invalid(measurements, p.Exchanges, "%s", why)
	}
	return pass(got, measurements, "in all %d answers, from %s, the container saw the client's own address", len(got), clientList(p.Clients))
}

func clientList(all []Client) string {
	var names []string
	for _, c := range all {
		names = append(names, fmt.Sprintf("%s %s", c.Name, c.Addr))
	}
	return strings.Join(names, ", ")
}

// LocalTaskAnswers checks one-to-one/local-task-answers: the task that answers is
// on the host that was asked, and it is always the same one.
func LocalTaskAnswers(p Published) Judgement {
	got := answered(p.Exchanges)
	tasks := map[string]map[string]int{} // host -> "task on node" -> answers
	var against []Exchange
	for _, x := range got {
		if x.Answer.Node == "" {
			return invalid(map[string]any{"answers": len(got)}, []Exchange{x}, "task %s does not say on which host it runs", shortTask(x.Answer.Task))
		}
		host := x.Endpoint.Host
		if tasks[host] == nil {
			tasks[host] = map[string]int{}
		}
		tasks[host][shortTask(x.Answer.Task)+" on "+x.Answer.Node]++
		if x.Answer.Node != host {
			against = append(against, x)
		}
	}
	measurements := map[string]any{"answers": len(got), "answers_by_host_and_task": tasks}
	if len(against) > 0 {
		x := against[0]
		return fail(against, measurements, "%d of %d answers came from a task on another host: %s was asked, task %s on %s answered",
			len(against), len(got), x.Endpoint.Host, shortTask(x.Answer.Task), x.Answer.Node)
	}
	for _, host := range sortedKeys(tasks) {
		if len(tasks[host]) > 1 {
			there := slices.DeleteFunc(got, func(x Exchange) bool { return x.Endpoint.Host != host })
			return fail(there, measurements, "%d tasks answered on %s: %s", len(tasks[host]), host, strings.Join(sortedKeys(tasks[host]), ", "))
		}
	}
	if why := enough(p.Exchanges, p.Clients, p.Endpoints); why != "" {
		return invalid(measurements, p.Exchanges, "%s", why)
	}
	return pass(got, measurements, "all %d answers came from the task on the host that was asked", len(got))
}

// Hidden is what was seen of ports that should not be reachable.
type Hidden struct {
	Hosts     []string
	Clients   []Client
	Endpoints []Endpoint
	Exchanges []Exchange // with Endpoints
	// Listens are questions put inside the container: they show that there is
	// something to reach.
	Listens []Exchange
	// Controls are questions of the same clients to the same hosts that were
	// answered by another service: they show that silence is not the network's.
	Controls []Exchange
}

// NotExposed checks internal/not-exposed: no host accepts anything on an internal
// service's ports. A refusal speaks for itself; silence counts only where the
// same client got an answer from the same host.
func NotExposed(h Hidden) Judgement {
	measurements := map[string]any{
		"exchanges": len(h.Exchanges), "outcomes": outcomes(h.Exchanges),
		"answered_inside": len(replied(h.Listens)), "controls_answered": len(replied(h.Controls)),
	}
	var against []Exchange
	for _, x := range h.Exchanges {
		switch x.Outcome {
		case Answered, Connected, Reset, WrongAnswer:
			if !foreign(x) {
				against = append(against, x)
			}
		}
	}
	if len(against) > 0 {
		return fail(against, measurements, "%d of %d questions to the internal service's ports were accepted from outside: %s", len(against), len(h.Exchanges), describe(against[0]))
	}
	if len(h.Hosts) == 0 || len(h.Clients) == 0 || len(h.Endpoints) == 0 || len(h.Exchanges) == 0 {
		return invalid(measurements, nil, "nothing was asked: it is not known what ports the service listens on")
	}
	for _, e := range h.Endpoints {
		if !slices.ContainsFunc(replied(h.Listens), func(x Exchange) bool { return portOf(x.Endpoint) == portOf(e) }) {
			return invalid(measurements, h.Listens, "nothing answers on %s inside the container either: silence outside shows nothing", portOf(e))
		}
	}
	others := 0
	heard := map[[2]string]bool{}
	for _, x := range replied(h.Controls) {
		heard[[2]string{x.Client.Name, x.Endpoint.Host}] = true
	}
	for _, x := range h.Exchanges {
		switch {
		case x.Outcome == Refused:
		case foreign(x):
			others++
		case x.Outcome == TimedOut:
			if !heard[[2]string{x.Client.Name, x.Endpoint.Host}] {
				return invalid(measurements, []Exchange{x}, "silence without a control: %s, and no other port of that host answered this client", describe(x))
			}
		default:
			return invalid(measurements, []Exchange{x}, "%s", describe(x))
		}
	}
	g := grid(h.Exchanges)
	for _, at := range wanted(h.Clients, h.Endpoints) {
		if len(g[at]) == 0 {
			return invalid(measurements, nil, "%s was not asked", at)
		}
	}
	for _, host := range h.Hosts {
		if !slices.ContainsFunc(h.Endpoints, func(e Endpoint) bool { return e.Host == host }) {
			return invalid(measurements, nil, "%s was not asked", host)
		}
	}
	n := outcomes(h.Exchanges)
	reason := fmt.Sprintf("the service answers on %s inside its container; outside, on all %d hosts, %d questions were refused and %d got no answer where other ports of the same host answered",
		strings.Join(portList(h.Endpoints), ", "), len(h.Hosts), n[string(Refused)], n[string(TimedOut)])
	if others > 0 {
		reason += fmt.Sprintf("; %d were answered by another service, which publishes that port", others)
	}
	return pass(h.Exchanges, measurements, "%s", reason)
}

// foreign says whether another service than the one in question answered.
func foreign(x Exchange) bool {
	return x.Outcome == Answered && x.Answer != nil && x.Answer.Service != "" && x.Answer.Service != x.Endpoint.Service
}

func portList(all []Endpoint) []string {
	var ports []string
	for _, e := range all {
		if p := portOf(e); !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports
}
