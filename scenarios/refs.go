package scenarios

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// ClaimProblem is something wrong with a claim that a scenario names.
type ClaimProblem struct {
	Index   int    // in Scenario.Claims
	Key     string // what of it is wrong: "id", "service" or "params"
	Param   string // the parameter, if it is one
	Message string
}

// CheckClaims finds what is wrong with the claims that the scenario names: claims
// and services that do not exist, claims that the service's place on the site does
// not derive, and parameters. The error is of definitions that cannot be deployed.
func (s Scenario) CheckClaims(site Facts) ([]ClaimProblem, error) {
	r, err := s.load()
	if err != nil {
		return nil, err
	}
	return s.checkClaims(r, site), nil
}

func (s Scenario) checkClaims(r *recipe.Recipe, site Facts) []ClaimProblem {
	var out []ClaimProblem
	for i, ref := range s.Claims {
		add := func(key, param, format string, args ...any) {
			out = append(out, ClaimProblem{i, key, param, fmt.Sprintf(format, args...)})
		}
		c, ok := claimByID(ref.ID)
		if !ok {
			hint := "the claims are " + strings.Join(claimIDs(), ", ")
			if near := recipe.Nearest(ref.ID, claimIDs()); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			add("id", "", "there is no claim %q: %s", ref.ID, hint)
			continue
		}
		if slices.ContainsFunc(s.Claims[:i], func(other ClaimRef) bool { return other.ID == ref.ID && other.Service == ref.Service }) {
			add("id", "", "claim %s is named twice for the same service", c.ID)
		}
		switch svc := r.Service(ref.Service); {
		case ref.Service == "":
			if !slices.ContainsFunc(r.Services, func(svc *recipe.Service) bool { return c.Applies(placeOf(s, svc, site.Hosts)) }) {
				add("id", "", "%s is for %s, and no service of the definitions is", c.ID, c.AppliesTo())
			}
		case svc == nil:
			add("service", "", "%s is asked of service %q, which the definitions do not have", c.ID, ref.Service)
		default:
			if why := c.WhyNot(placeOf(s, svc, site.Hosts)); why != "" {
				add("service", "", "%s of service %s %s", c.ID, svc.Name, why)
			}
		}
		c.checkParams(ref.Params, func(param, message string) { add("params", param, "%s: %s", c.ID, message) })
	}
	return out
}

func (c Claim) checkParams(params map[string]string, complain func(param, message string)) {
	var known []string
	for _, p := range c.Params {
		known = append(known, p.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		value := params[name]
		i := slices.Index(known, name)
		switch {
		case len(known) == 0:
			complain(name, fmt.Sprintf("there is no parameter %q: this claim has none", name))
		case i < 0:
			complain(name, fmt.Sprintf("there is no parameter %q: there is %s", name, strings.Join(known, ", ")))
		default:
			if err := c.Params[i].Check(value); err != nil {
				complain(name, err.Error())
			}
		}
	}
}

// Check says what is wrong with a value for the parameter.
func (p Param) Check(value string) error {
	if _, err := strconv.Atoi(p.Default); err == nil {
		if n, err := strconv.Atoi(value); err != nil || n < 0 {
			return fmt.Errorf("%s %q: want a whole number such as %s", p.Name, value, p.Default)
		}
		return nil
	}
	if d, err := time.ParseDuration(value); err != nil || d <= 0 {
		return fmt.Errorf("%s %q: want a duration such as %s", p.Name, value, p.Default)
	}
	return nil
}
