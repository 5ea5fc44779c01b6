package probes

import (
	"fmt"
	"slices"
)

// minScaleAnswers is how many answers of each port a phase needs: each of a handful
// of replicas has had its turn then. Each client must have asked each port of each
// host minAnswers times beside, for every host has a rotation of its own.
const minScaleAnswers = 10

// Scales checks mesh/scales: with more replicas each new task serves on every
// port; with fewer again, what is removed gets nothing more and nothing is lost.
// Those tasks that need not go stay.
func Scales(s Scaling) Judgement {
	phases := []struct {
		name string
		ScalePhase
	}{{"before", s.Before}, {"with more replicas", s.Grown}, {"with fewer again", s.Shrunk}}
	answers := map[string]map[string]int{}
	m := map[string]any{"answers_by_phase_and_task": answers}
	cells := map[cell]bool{}
	for _, p := range phases {
		answers[p.name] = map[string]int{}
		for _, x := range answered(p.Exchanges) {
			answers[p.name][x.Answer.Task]++
		}
		for _, x := range p.Exchanges {
			cells[cellOf(x)] = true
		}
	}
	for _, p := range phases {
		if n := len(except(p.Tasks, nil)); n != p.Replicas || n == 0 {
			return invalid(m, nil, "%s %d of %d tasks ran", p.name, n, p.Replicas)
		}
	}
	if s.Grown.Replicas <= s.Before.Replicas || s.Shrunk.Replicas >= s.Grown.Replicas {
		return invalid(m, nil, "the replicas were %d, %d and %d: the service was not scaled up and down", s.Before.Replicas, s.Grown.Replicas, s.Shrunk.Replicas)
	}
	if why := strangers(s, m); why != nil {
		return *why
	}
	lost := 0
	for _, p := range phases {
		if bad := untrusted(p.Exchanges); len(bad) > 0 {
			return invalid(m, bad, "%s %d of %d exchanges could not be made: %s", p.name, len(bad), len(p.Exchanges), describe(bad[0]))
		}
		var against, silent []Exchange
		udp, got := 0, map[string]int{}
		for _, x := range p.Exchanges {
			if x.Endpoint.Proto == "udp" {
				udp++
			}
			switch {
			case x.Outcome == Answered && x.Answer == nil:
				return invalid(m, []Exchange{x}, "this needs the agent's answers, and what answered %s %s is not the agent", p.name, cellOf(x))
			case x.Outcome == Answered:
				got[portOf(x.Endpoint)]++
			case x.Endpoint.Proto == "udp" && x.Outcome == TimedOut:
				silent = append(silent, x)
			default:
				against = append(against, x)
			}
		}
		if len(against) > 0 {
			return fail(against, m, "%s %d of %d exchanges were not answered: %s", p.name, len(against), len(p.Exchanges), describe(against[0]))
		}
		if float64(len(silent)) > maxUDPLoss*float64(udp) {
			return fail(silent, m, "%s %d of %d UDP questions got no answer, more than %.0f %%: %s", p.name, len(silent), udp, maxUDPLoss*100, describe(silent[0]))
		}
		lost += len(silent)
		if why := fewInPhase(p.Exchanges, cells, got); why != "" {
			return invalid(m, nil, "%s %s", p.name, why)
		}
	}
	added, removed := except(s.Grown.Tasks, s.Before.Tasks), except(s.Grown.Tasks, s.Shrunk.Tasks)
	served, ports := map[[2]string]bool{}, map[string]bool{}
	for _, x := range answered(s.Grown.Exchanges) {
		served[[2]string{portOf(x.Endpoint), x.Answer.Task}] = true
		ports[portOf(x.Endpoint)] = true
	}
	for _, port := range sortedKeys(ports) {
		for _, t := range added {
			if !served[[2]string{port, t}] {
				return fail(answered(s.Grown.Exchanges), m, "the new task %s served nobody on %s", shortTask(t), port)
			}
		}
	}
	reason := fmt.Sprintf("with %d replicas the new task served on %s; with %d again the removed one got nothing of %d questions",
		s.Grown.Replicas, list(sortedKeys(ports)), s.Shrunk.Replicas, len(s.Shrunk.Exchanges))
	if len(added) > 1 || len(removed) > 1 {
		reason = fmt.Sprintf("with %d replicas each of %d new tasks served on %s; with %d again those removed (%d) got nothing of %d questions",
			s.Grown.Replicas, len(added), list(sortedKeys(ports)), s.Shrunk.Replicas, len(removed), len(s.Shrunk.Exchanges))
	}
	if lost > 0 {
		return pass(s.Shrunk.Exchanges, m, "%s; %d UDP question(s) got no answer, within %.0f %%", reason, lost, maxUDPLoss*100)
	}
	return pass(s.Shrunk.Exchanges, m, "%s, and none was lost", reason)
}

// strangers judges who answered by who should run: nil if nothing is wrong with it.
func strangers(s Scaling, m map[string]any) *Judgement {
	judged := func(j Judgement) *Judgement { return &j }
	for _, x := range answered(s.Before.Exchanges) {
		if !slices.Contains(s.Before.Tasks, x.Answer.Task) {
			return judged(invalid(m, []Exchange{x}, "before task %s answered, which is none of those that ran: the site was not at rest", shortTask(x.Answer.Task)))
		}
	}
	for _, x := range answered(s.Grown.Exchanges) {
		if !slices.Contains(s.Grown.Tasks, x.Answer.Task) {
			return judged(fail([]Exchange{x}, m, "with more replicas task %s answered, which is none of those that run", shortTask(x.Answer.Task)))
		}
	}
	for _, x := range answered(s.Shrunk.Exchanges) {
		switch {
		case slices.Contains(s.Shrunk.Tasks, x.Answer.Task):
		case slices.Contains(s.Grown.Tasks, x.Answer.Task):
			return judged(fail([]Exchange{x}, m, "task %s was removed, and still answered %s at %s", shortTask(x.Answer.Task), x.Client.Name, x.Endpoint.Host))
		default:
			return judged(fail([]Exchange{x}, m, "with fewer again task %s answered, which is none of those that run", shortTask(x.Answer.Task)))
		}
	}
	if gone := except(s.Before.Tasks, s.Grown.Tasks); len(gone) > 0 {
		return judged(fail(nil, m, "task %s did not outlive the change to %d replicas", shortTask(gone[0]), s.Grown.Replicas))
	}
	if begun := except(s.Shrunk.Tasks, s.Grown.Tasks); len(begun) > 0 {
		return judged(fail(nil, m, "task %s was started by the change to %d replicas, which only takes away", shortTask(begun[0]), s.Shrunk.Replicas))
	}
	return nil
}

// fewInPhase says what was not asked often enough in a phase; empty if all was.
// cells are those of any phase, got the answers by port.
func fewInPhase(all []Exchange, cells map[cell]bool, got map[string]int) string {
	g := grid(all)
	var short []string
	for at := range cells {
		if len(g[at]) < minAnswers {
			short = append(short, fmt.Sprintf("%s: %d", at, len(g[at])))
		}
	}
	slices.Sort(short)
	if len(cells) == 0 {
		return "nothing was asked"
	}
	if len(short) > 0 {
		return fmt.Sprintf("there were fewer than %d exchanges of %s", minAnswers, list(short))
	}
	for _, port := range sortedKeys(got) {
		if got[port] < minScaleAnswers {
			return fmt.Sprintf("there were %d answers on %s, %d are needed", got[port], port, minScaleAnswers)
		}
	}
	return ""
}

// except are those of all that are not among others, sorted, each once.
func except(all, others []string) []string {
	left := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(others, s) })
	slices.Sort(left)
	return slices.Compact(left)
}

// enoughOutside is how often a client outside must have asked a port, and
// enoughInside how often one inside have been answered by it: more than once, so
// that the port is known to have been open all along.
const enoughOutside, enoughInside = 1, 2

// InternalRange checks ports/internal-range: what clients on the segment are served
// on is not to be had from outside.
func InternalRange(p Published) Judgement {
	ends := map[string]int{} // of what was asked from outside
	inside, outside := 0, 0
	for _, c := range p.Clients {
		if c.Network == "segment" {
			inside++
		} else {
			outside++
		}
	}
	m := map[string]any{"clients_inside": inside, "clients_outside": outside, "outcomes_outside": ends}
	var against []Exchange
	for _, x := range p.Exchanges {
		if x.Client.Network == "segment" {
			continue
		}
		ends[string(x.Outcome)]++
		switch x.Outcome {
		case Answered, Connected, Reset, WrongAnswer:
			against = append(against, x)
		}
	}
	if len(against) > 0 {
		return fail(against, m, "in %d of %d questions an internal port was reached from outside: %s", len(against), total(ends), describe(against[0]))
	}
	if bad := untrusted(p.Exchanges); len(bad) > 0 {
		return invalid(m, bad, "%d of %d exchanges could not be made: %s", len(bad), len(p.Exchanges), describe(bad[0]))
	}
	if inside == 0 || outside == 0 || len(p.Endpoints) == 0 {
		return invalid(m, nil, "there were %d clients inside and %d outside, and %d ports", inside, outside, len(p.Endpoints))
	}
	g := grid(p.Exchanges)
	for _, at := range wanted(p.Clients, p.Endpoints) {
		all := g[at]
		i := slices.IndexFunc(p.Clients, func(c Client) bool { return c.Name == at.Client })
		switch {
		case p.Clients[i].Network != "segment" && len(all) < enoughOutside:
			return invalid(m, nil, "%s was not asked", at)
		case p.Clients[i].Network == "segment" && len(replied(all)) < enoughInside:
			return invalid(m, all, "%s was not answered either: what is silent for everybody shows nothing", at)
		}
	}
	reason := fmt.Sprintf("%d questions of %d clients outside got no answer (%s) from ports that answer on the segment", total(ends), outside, counted(ends))
	return pass(p.Exchanges, m, "%s", reason)
}

func total(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

func counted(m map[string]int) string {
	var all []string
	for _, k := range sortedKeys(m) {
		all = append(all, fmt.Sprintf("%s %d", k, m[k]))
	}
	return list(all)
}
