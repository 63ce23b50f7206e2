"""Accounts for people: a line while it runs, a table at the end."""

from rich.table import Table

from tests.chaos.accounting import Account
from tests.chaos.mutations import Mutation
from tests.chaos.scenario import Scenario

COLUMNS = ("sent", "refused", "accepted", "applied", "duplicates", "dead", "lost", "back s", "recovered s")


def cells(account: Account) -> list[str]:
    counts = (account.sent, account.refused, account.accepted, account.applied, account.duplicates, account.dead)
    return [*map(str, (*counts, account.lost)), _seconds(account.registered_s), _seconds(account.recovered_s)]


def line(account: Account) -> str:
    said = ", ".join(f"{name} {cell}" for name, cell in zip(COLUMNS, cells(account), strict=True))
    return f"{account.name}: {said}: [{'green' if account.holds else 'red'}]{verdict(account)}[/]"


def verdict(account: Account) -> str:
    return "holds" if account.holds else "; ".join((*_lost(account), *account.problems))


def _lost(account: Account) -> list[str]:
    return [f"{account.lost} lost"] if account.lost else []


def of_accounts(accounts: list[Account]) -> Table:
    table = Table("scenario", *COLUMNS, "")
    for account in accounts:
        table.add_row(account.name, *cells(account), verdict(account))
    return table


def of_mutations(caught: list[tuple[Mutation, Account]]) -> Table:
    table = Table("mutation", "what is undone", "scenario", "what its accounting says")
    for mutation, account in caught:
        table.add_row(mutation.name, mutation.what, mutation.caught_by, verdict(account))
    return table


def of_scenarios(groups: dict[str, tuple[Scenario, ...]]) -> Table:
    table = Table("group", "scenario", "what is broken")
    for group, scenarios in groups.items():
        for scenario in scenarios:
            table.add_row(group, scenario.name, scenario.breaks)
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
