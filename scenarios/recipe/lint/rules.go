package lint

import (
	"slices"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// Rule is something that lint looks for. Its ID is stable; docs/rules has a page
// for each.
type Rule struct {
	ID       string
	Severity Severity
	Title    string // what breaks it, in one line

	// check gives the rule's remarks about one service of a site; nil for a rule
	// that the parser checks.
	check func(*site, *service) []remark
}

// Rules returns every rule in the order of its ID.
func Rules() []Rule { return slices.Clone(rules) }

// RuleByID finds a rule.
func RuleByID(id string) (Rule, bool) {
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		return Rule{}, false
	}
	return rules[i], true
}

var rules = []Rule{
	{recipe.RuleYAML, Error, "not YAML", nil},
	{recipe.RuleKey, Error, "unknown key", nil},
	{recipe.RuleValue, Error, "wrong type or value", nil},
	{recipe.RuleVolume, Error, "volume without source or target, or in short syntax", nil},
	{recipe.RuleOneStorage, Error, "more than one of drbd, nfs and driver on one volume", nil},
	{recipe.RuleDefinition, Error, "no hive service definition", nil},
	{"HP007", Warning, "volume type left out", volumeType},
	{"HP101", Error, "service volume on a scalable or global service", serviceVolume},
	{"HP102", Error, "host volume on a singleton or scalable service of a site with several hosts", hostVolume},
	{"HP103", Error, "shared volume on a singleton", sharedVolume},
	{"HP104", Warning, "volumes of different patterns in one service", mixedVolumes},
	{"HP105", Warning, "ports of different patterns in one service", mixedPorts},
	{"HP106", Warning, "DRBD volume with ext4, which the image's content is not copied to", ext4},
	{"HP107", Warning, "DRBD volume with xfs of 100M or less", smallXFS},
	{"HP201", Error, "ingress port with endpoint_mode dnsrr", ingressDNSRR},
	{"HP202", Error, "ingress port on a global service", ingressGlobal},
	{"HP203", Error, "host-mode port on a scalable service", hostScalable},
	{"HP204", Error, "host-mode port on a global service without endpoint_mode dnsrr", hostGlobalVIP},
	{"HP205", Warning, "internal or virtual-IP service with endpoint_mode vip", needlessVIP},
	{"HP206", Error, "replicas with mode global", replicasGlobal},
	{"HP207", Error, "HIVE_VIP on a service that is no singleton", vipNoSingleton},
	{"HP208", Warning, "host-mode port on a singleton without HIVE_VIP", noVIP},
	{"HP209", Error, "two services publish the same port and protocol", samePort},
	{"HP210", Warning, "upstream of a proxy published below 10000", upstreamPort},
}
