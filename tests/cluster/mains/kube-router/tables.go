package main

import (
	"strings"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/utils"
)

// rememberingTables remembers for mendPeriod that the chains exist in which kube-router keeps its rules, and the rules that lead to them.
// Each question costs a process, and kube-router asks all of them each time. Whatever it changes makes all be asked again.
// Its calls come one at a time.
type rememberingTables struct {
	utils.IPTablesHandler
	found map[string][]string
	since time.Time
}

// remembered returns what is known as `question`, or what `ask` finds now.
func (tables *rememberingTables) remembered(question []string, ask func() ([]string, bool, error)) ([]string, bool, error) {
	if time.Since(tables.since) > mendPeriod {
		tables.forget()
	}
	key := strings.Join(question, "\x00")
	if answer, ok := tables.found[key]; ok {
		return answer, true, nil
	}
	answer, exists, err := ask()
	if exists && err == nil {
		tables.found[key] = answer
	}
	return answer, exists, err
}

func (tables *rememberingTables) forget() { tables.found, tables.since = map[string][]string{}, time.Now() }

func (tables *rememberingTables) Exists(table, chain string, rule ...string) (bool, error) {
	_, exists, err := tables.remembered(append([]string{"rule", table, chain}, rule...), func() ([]string, bool, error) {
		exists, err := tables.IPTablesHandler.Exists(table, chain, rule...)
		return nil, exists, err
	})
	return exists, err
}

func (tables *rememberingTables) ChainExists(table, chain string) (bool, error) {
	_, exists, err := tables.remembered([]string{"chain", table, chain}, func() ([]string, bool, error) {
		exists, err := tables.IPTablesHandler.ChainExists(table, chain)
		return nil, exists, err
	})
	return exists, err
}

func (tables *rememberingTables) List(table, chain string) ([]string, error) {
	rules, _, err := tables.remembered([]string{"rules", table, chain}, func() ([]string, bool, error) {
		rules, err := tables.IPTablesHandler.List(table, chain)
		return rules, true, err
	})
	return rules, err
}

func (tables *rememberingTables) AppendUnique(table, chain string, rule ...string) error {
	_, _, err := tables.remembered(append([]string{"appended", table, chain}, rule...), func() ([]string, bool, error) {
		return nil, true, tables.IPTablesHandler.AppendUnique(table, chain, rule...)
	})
	return err
}

func (tables *rememberingTables) Insert(table, chain string, position int, rule ...string) error {
	tables.forget()
	return tables.IPTablesHandler.Insert(table, chain, position, rule...)
}

func (tables *rememberingTables) Delete(table, chain string, rule ...string) error {
	tables.forget()
	return tables.IPTablesHandler.Delete(table, chain, rule...)
}

func (tables *rememberingTables) NewChain(table, chain string) error {
	tables.forget()
	return tables.IPTablesHandler.NewChain(table, chain)
}
