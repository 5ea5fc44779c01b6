package recipe

import (
	"regexp"
	"strconv"
	"strings"
)

// kind is what Ansible's loader (PyYAML, YAML 1.1) makes of a node.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindInt
	kindFloat
	kindTime
	kindString
	kindList
	kindMap
)

// String names the kind for a message.
func (k kind) String() string {
	switch k {
	case kindNull:
		return "nothing"
	case kindBool:
		return "a boolean"
	case kindInt, kindFloat:
		return "a number"
	case kindTime:
		return "a date"
	case kindString:
		return "a string"
	case kindList:
		return "a list"
	default:
		return "a map"
	}
}

// The implicit types of YAML 1.1 as PyYAML resolves them. hive-builder's files
// are read by it, so that an unquoted yes is a boolean and an unquoted 22:22 a
// number (base 60), whatever a YAML 1.2 parser says.
var (
	boolPattern  = regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)
	intPattern   = regexp.MustCompile(`^[-+]?(?:0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	floatPattern = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	timePattern  = regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::?[0-9]{2})?))?)?$`)
)

// plainKind resolves an unquoted scalar.
func plainKind(text string) kind {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return kindNull
	}
	switch c := text[0]; {
	case strings.IndexByte("yYnNtTfFoO", c) >= 0:
		if boolPattern.MatchString(text) {
			return kindBool
		}
	case c >= '0' && c <= '9', c == '+', c == '-', c == '.':
		switch {
		case intPattern.MatchString(text):
			return kindInt
		case floatPattern.MatchString(text):
			return kindFloat
		case timePattern.MatchString(text):
			return kindTime
		}
	}
	return kindString
}

// parseBool is the value of a scalar that boolPattern matches.
func parseBool(text string) bool {
	switch strings.ToLower(text) {
	case "yes", "true", "on":
		return true
	}
	return false
}

// parseInt is the value of a scalar that intPattern matches; ok is false if it
// does not fit into 64 bits.
func parseInt(text string) (v int64, ok bool) {
	text = strings.ReplaceAll(text, "_", "")
	sign := int64(1)
	switch {
	case strings.HasPrefix(text, "-"):
		sign, text = -1, text[1:]
	case strings.HasPrefix(text, "+"):
		text = text[1:]
	}
	base := 10
	switch {
	case strings.Contains(text, ":"):
		for part := range strings.SplitSeq(text, ":") {
			digits, err := strconv.ParseInt(part, 10, 32)
			if err != nil || v > (1<<62)/60 {
				return 0, false
			}
			v = v*60 + digits
		}
		return sign * v, true
	case strings.HasPrefix(text, "0b"):
		base, text = 2, text[2:]
	case strings.HasPrefix(text, "0x"):
		base, text = 16, text[2:]
	case len(text) > 1 && text[0] == '0':
		base, text = 8, text[1:]
	}
	v, err := strconv.ParseInt(text, base, 64)
	return sign * v, err == nil
}

var sizePattern = regexp.MustCompile(`^([0-9]{1,15})(?:\.([0-9]{1,6}))?([bBkKmMgGtTpP]?)(?:[iI]?[bB])?$`)

// parseSize reads a size such as 500M or 1.5G in binary units. unit reports
// whether one was written.
func parseSize(text string) (bytes int64, unit, ok bool) {
	m := sizePattern.FindStringSubmatch(text)
	if m == nil || (strings.EqualFold(m[3], "b") && len(text) > len(m[1])+1) {
		return 0, false, false
	}
	number, err := strconv.ParseFloat(m[1]+"."+m[2]+"0", 64)
	if err != nil {
		return 0, false, false
	}
	shift := 10 * max(0, strings.Index("bkmgtp", strings.ToLower(m[3])))
	number *= float64(int64(1) << shift)
	if number < 1 || number >= 1<<62 {
		return 0, false, false
	}
	return int64(number), m[3] != "", true
}
