"""Made-up companies as partners write them down: common words by Zipf's law, rare ones, and the same company twice.

Lead number n is always the same, whatever was made before it, so that parts of a million are made side by side.
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from random import Random
from typing import Final
from uuid import UUID

from prm_es.aggregates.fields import Customer

# fmt: off
_TRADES: Final = (
    "Comércio", "Serviços", "Indústria", "Distribuidora", "Transportes", "Construtora", "Engenharia", "Alimentos",
    "Materiais", "Equipamentos", "Informática", "Tecnologia", "Consultoria", "Representações", "Confecções",
    "Móveis", "Metalúrgica", "Agropecuária", "Supermercado", "Padaria", "Farmácia", "Auto", "Peças", "Tintas",
    "Ferragens", "Embalagens", "Plásticos", "Têxtil", "Gráfica", "Hotelaria", "Restaurante", "Logística",
    "Soluções", "Sistemas", "Automação", "Elétrica", "Hidráulica", "Mineração", "Energia", "Saúde", "Clínica",
    "Laboratório", "Educação", "Turismo", "Eventos", "Bebidas", "Frigorífico", "Laticínios", "Cerâmica", "Vidros",
    "Madeiras", "Papelaria", "Óptica", "Joias", "Calçados", "Cosméticos",
)
_FAMILIES: Final = (
    "Silva", "Santos", "Oliveira", "Souza", "Rodrigues", "Ferreira", "Alves", "Pereira", "Lima", "Gomes", "Costa",
    "Ribeiro", "Martins", "Carvalho", "Almeida", "Lopes", "Soares", "Fernandes", "Vieira", "Barbosa", "Rocha",
    "Dias", "Nascimento", "Andrade", "Moreira", "Nunes", "Marques", "Machado", "Mendes", "Freitas", "Cardoso",
    "Ramos", "Gonçalves", "Santana", "Teixeira", "Schmidt", "Müller", "Weber", "Schneider", "Zanella", "Bianchi",
    "Rossi", "Kowalski", "Nakamura", "Tanaka", "Cunha", "Pinto", "Azevedo", "Farias", "Brandão", "Siqueira",
    "Peixoto", "Furtado", "Valente", "Camargo", "Queiroz", "Bittencourt", "Prado",
)
_CITIES: Final = (
    "São Paulo", "Rio de Janeiro", "Belo Horizonte", "Brasília", "Curitiba", "Porto Alegre", "Salvador",
    "Fortaleza", "Recife", "Goiânia", "Campinas", "Manaus", "Belém", "Guarulhos", "São Luís", "Maceió", "Natal",
    "Teresina", "Campo Grande", "Joinville", "Londrina", "Caxias do Sul", "Pelotas", "Ribeirão Preto", "Uberlândia",
    "Sorocaba", "Niterói", "Florianópolis", "Blumenau", "Maringá", "Santos", "Cascavel", "Chapecó", "Passo Fundo",
)
# fmt: on
_FORMS: Final = ("Ltda", "Ltda - ME", "S.A.", "EIRELI", "Ltda EPP", "", "ME", "S/A")
_START: Final = (
    "b",
    "br",
    "c",
    "cl",
    "d",
    "f",
    "fr",
    "g",
    "gr",
    "j",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "pr",
    "qu",
    "r",
    "s",
    "st",
    "t",
    "tr",
)
_MIDDLE: Final = ("a", "e", "i", "o", "u", "ai", "ei", "ia", "io")
_END: Final = ("l", "m", "n", "r", "s", "t", "x", "z", "nd", "rt", "sk", "vel", "dor", "tec", "max", "lin")
_STREETS: Final = ("Rua", "Av.", "Avenida", "Travessa", "Rodovia", "Alameda")
TWIN: Final = 12  # one lead in so many is the same customer again, by another partner


@cache
def _zipf(number: int, power: float) -> Sequence[float]:
    return list(accumulate(1 / rank**power for rank in range(1, number + 1)))


def _pick(dice: Random, words: Sequence[str], power: float = 1.0) -> str:
    sums = _zipf(len(words), power)
    return words[bisect(sums, dice.random() * sums[-1])]


def _invented(dice: Random) -> str:
    parts = [dice.choice(_START) + dice.choice(_MIDDLE) for _ in range(dice.choice((2, 2, 3)))]
    return ("".join(parts) + dice.choice(_END)).capitalize()


def _name(dice: Random) -> str:
    kind = dice.random()
    if kind < 0.45:
        words = [_invented(dice), _pick(dice, _TRADES)]
    elif kind < 0.75:
        words = [_invented(dice), _pick(dice, _FAMILIES), "&", _pick(dice, _FAMILIES), _pick(dice, _TRADES)]
    elif kind < 0.9:
        words = [_pick(dice, _TRADES), "de", _pick(dice, _TRADES), _invented(dice)]
    else:
        words = [_pick(dice, _TRADES), _pick(dice, _FAMILIES), _pick(dice, _FAMILIES)]
    if dice.random() < 0.35:
        words.append(f"e {_pick(dice, _TRADES)}")
    return " ".join(words)


def company(number: int) -> Customer:
    """Give company number n as the registry might have it."""
    dice = Random(number)
    name, city = _name(dice), _pick(dice, _CITIES, 0.8)
    host = "".join(letter for letter in name.lower() if letter.isascii() and letter.isalpha())[:24]
    return Customer(
        name=f"{name} {dice.choice(_FORMS)}".strip(),
        trade_name=_invented(dice) if dice.random() < 0.2 else None,
        country="BR",
        domains=(f"{host}{number % 977}.com.br",) if dice.random() < 0.5 else (),
        address=f"{dice.choice(_STREETS)} {_pick(dice, _FAMILIES)} {_invented(dice)}, {dice.randrange(1, 4000)}",
        postcode=f"{dice.randrange(10_000, 99_999)}-{dice.randrange(1000):03}",
        city=city,
        phone=f"+55{dice.randrange(11, 99)}3{dice.randrange(10_000_000):07}" if dice.random() < 0.6 else None,
    )


def again(one: Customer, number: int) -> Customer:
    """Give the company as another partner wrote it down: another spelling, and less or other things known of it."""
    dice = Random(-number - 1)
    words = one.name.split()
    for _change in range(dice.choice((1, 1, 2, 2, 3))):
        words = _dirtied(dice, words)
    loses = {field for field in ("domains", "phone", "address", "trade_name") if dice.random() < 0.4}
    known = {field: value for field, value in one if field not in loses}
    if one.trade_name and dice.random() < 0.3:
        words = [one.trade_name]
    moved = {"postcode": None, "address": None} if dice.random() < 0.2 else {}
    return Customer(**{**known, **moved, "name": " ".join(words)})


def _dirtied(dice: Random, words: list[str]) -> list[str]:
    place = (
        max(range(len(words)), key=lambda n: (len(words[n]), n)) if dice.random() < 0.4 else dice.randrange(len(words))
    )
    word, kind = words[place], dice.randrange(6)
    if kind == 0 and len(word) > 4:
        cut = dice.randrange(1, len(word) - 1)
        word = word[:cut] + word[cut + 1 :]
    elif kind == 1 and len(word) > 4:
        cut = dice.randrange(1, len(word) - 2)
        word = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
    elif kind == 2 and word in _TRADES and len(words) > 1:
        return words[:place] + words[place + 1 :]
    elif kind == 3 and word in _TRADES:
        word = word[:4] + "."
    elif kind == 4 and len(words) > 2:
        return [*words[1:], words[0]]
    else:
        return [one.upper() for one in words if one not in _FORMS]
    return [*words[:place], word, *words[place + 1 :]]


def leads(start: int, stop: int) -> Iterator[tuple[int, UUID, Customer]]:
    """Give the leads of these numbers with their ids; some are about the customer of the one before."""
    for number in range(start, stop):
        twin = number % TWIN == TWIN - 1
        one = again(company(number - 1), number) if twin else company(number)
        yield number, UUID(int=number + 1), one
