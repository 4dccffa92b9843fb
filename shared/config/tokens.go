package config

import (
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// What the YAML library does not get right is seen to here, between its lexer
// and its parser.

// maxDepth bounds brackets within brackets, for which the parser takes time
// with the square of the depth. A configuration has fewer than ten.
const maxDepth = 32

// oneDocument refuses further documents, since what follows an empty one would
// be dropped without a word, directives, and nesting without end.
func (d *decoder) oneDocument(tokens token.Tokens) bool {
	content, depth := false, 0
	for _, tk := range tokens {
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			content = true
			if depth++; depth > maxDepth {
				d.add("", tk, "brackets are nested too deeply")
				return false
			}
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.CommentType:
		case token.DirectiveType:
			d.add("", tk, "directives such as %%YAML are not used here; remove the line")
			return false
		case token.DocumentHeaderType, token.DocumentEndType:
			if content {
				d.add("", tk, "a configuration is one document; remove this line")
				return false
			}
			content = true
		default:
			content = true
		}
	}
	return true
}

// rejoin puts words together again that the lexer splits at a colon: within
// braces it takes the 2001:db8::/32 of a list for a key and its value. A colon
// makes a key only with a space behind it (YAML 1.2.2 §7.3.3), so that within
// brackets whatever touches it on both sides is one word.
func rejoin(tokens token.Tokens) token.Tokens {
	var out token.Tokens
	var open []token.Type
	for i := 0; i < len(tokens); i++ {
		tk := tokens[i]
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			open = append(open, tk.Type)
		case token.SequenceEndType, token.MappingEndType:
			open = open[:max(len(open)-1, 0)]
		}
		inList := len(open) > 0 && open[len(open)-1] == token.SequenceStartType
		if !inList || tk.Type != token.MappingValueType || i+1 == len(tokens) || !touches(tk, tokens[i+1]) {
			out = append(out, tk)
			continue
		}
		word := token.String(tk.Value, tk.Origin, tk.Position)
		if last := len(out) - 1; touches(out[last], tk) && isWord(out[last]) {
			word = joined(out[last], tk)
			out = out[:last]
		}
		out = append(out, joined(word, tokens[i+1]))
		i++
	}
	var linked token.Tokens
	linked.Add(out...)
	return linked
}

// touches reports that b, a word or a colon, stands directly behind a.
func touches(a, b *token.Token) bool {
	return (isWord(b) || b.Type == token.MappingValueType) &&
		a.Position.Line == b.Position.Line && a.Position.Column+utf8.RuneCountInString(a.Value) == b.Position.Column
}

// isWord reports a scalar without quotes.
func isWord(tk *token.Token) bool {
	return tk.Indicator == token.NotIndicator && tk.CharacterType == token.CharacterTypeMiscellaneous
}

func joined(a, b *token.Token) *token.Token {
	return token.String(a.Value+b.Value, a.Origin+b.Origin, a.Position)
}
