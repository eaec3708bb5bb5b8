"""The invented products: names, looks and aisles. Data only; packs.py draws them."""

from dataclasses import dataclass
from typing import Literal, cast

Shape = Literal["bottle", "glass", "can", "tin", "gable", "brick", "box", "bag", "jar", "tub"]
Aisle = Literal["drinks", "dairy", "pantry", "snacks"]
Art = Literal["band", "wave", "burst", "stripes", "block", "peaks"]

# code, brand, variety, shape, aisle, tall, slim, base, accent, ink, art, filling: see Product.
_TABLE = """
zumbo-cola-500     Zumbo      cola            bottle drinks 0.97 0.29 #c4161c #ffffff #ffffff wave    #3a1508
zumbo-zero-500     Zumbo      zero            bottle drinks 0.97 0.29 #17171a #c4161c #ffffff wave    #2c0f06
oranya-500         Oranya     orange          bottle drinks 0.94 0.30 #0b4ea2 #ffd400 #ffffff burst   #f58a07
limbra-500         Limbra     lemon_lime      bottle drinks 0.94 0.30 #0d8a3e #fff04d #ffffff stripes #cfe8a0
fjella-still-700   Fjella     still_water     bottle drinks 1.00 0.27 #1b6fd0 #d8f0ff #ffffff peaks   #d6ecf5
fjella-fizz-700    Fjella     sparkling       bottle drinks 1.00 0.27 #0a8f8a #d8fff4 #ffffff peaks   #cfeee8
hibisk-tea-450     Hibisk     iced_tea        glass  drinks 0.90 0.33 #f3e3c3 #b3261e #7a1712 band    #a2361c
verdola-450        Verdola    green_tea       glass  drinks 0.90 0.33 #eef3d0 #4d7c1f #2c4d10 band    #b9b04a
tokki-energy-330   Tokki      energy          can    drinks 0.68 0.36 #10131c #39e05a #39e05a stripes #ffffff
tokki-ice-330      Tokki      ice             can    drinks 0.68 0.36 #e9eef5 #1e7be0 #123a78 stripes #ffffff
zumbo-can-330      Zumbo      cola            can    drinks 0.58 0.52 #c4161c #ffffff #ffffff wave    #ffffff
oranya-can-330     Oranya     orange          can    drinks 0.58 0.52 #f07d00 #ffd400 #ffffff burst   #ffffff
malzen-500         Malzen     lager           can    drinks 0.72 0.42 #e2b13c #6b1414 #6b1414 band    #ffffff
karamoo-full-1l    Karamoo    whole_milk      gable  dairy  1.00 0.37 #f7f9fb #d3222a #b3151c wave    #ffffff
karamoo-half-1l    Karamoo    semi_skimmed    gable  dairy  1.00 0.37 #f7f9fb #1f5fbf #174a97 wave    #ffffff
havrel-oat-1l      Havrel     oat_drink       brick  dairy  0.92 0.36 #efe1c4 #2f5d50 #23463c block   #ffffff
almeria-1l         Almeria    almond_drink    brick  dairy  0.92 0.36 #cfe7ef #8a4b20 #5f3110 peaks   #ffffff
solamara-orange-1l Solamara   orange_juice    gable  dairy  0.98 0.38 #ff9a1f #0c7a3d #ffffff burst   #ffffff
solamara-apple-1l  Solamara   apple_juice     gable  dairy  0.98 0.38 #7fb52c #c7142b #ffffff burst   #ffffff
yomilla-straw-150  Yomilla    strawberry      tub    dairy  0.40 0.98 #fde7ee #d81e5b #a80f40 band    #ffffff
yomilla-blue-150   Yomilla    blueberry       tub    dairy  0.40 0.98 #e8e6fb #4338a8 #2d2480 band    #ffffff
skyrra-500         Skyrra     skyr_natural    tub    dairy  0.52 0.95 #ffffff #0f8fc4 #0b5a80 peaks   #ffffff
kefira-drink-400   Kefira     kefir           bottle dairy  0.80 0.36 #6a3fa0 #ffe27a #ffffff block   #f6f2ea
granosol-375       Granosol   honey_rings     box    pantry 1.00 0.68 #ffc72c #c8102e #8a0b20 burst   #ffffff
avenella-500       Avenella   rolled_oats     box    pantry 0.92 0.64 #1d4f91 #f4e3b2 #ffffff peaks   #ffffff
krokko-400         Krokko     choco_puffs     box    pantry 0.98 0.68 #5b2c12 #ff7a00 #ffe7c2 burst   #ffffff
pastallo-500       Pastallo   penne           box    pantry 0.82 0.62 #0c2d6b #e9b949 #ffffff band    #ffffff
pomodella-400      Pomodella  plum_tomatoes   tin    pantry 0.48 0.74 #d62718 #fff1d0 #ffffff block   #ffffff
bohnita-400        Bohnita    red_beans       tin    pantry 0.48 0.74 #215732 #f0c14b #ffffff stripes #ffffff
confira-340        Confira    apricot_jam     jar    pantry 0.56 0.64 #fff6e3 #c0392b #7b241c band    #e9861a
mokaro-200         Mokaro     coffee          jar    pantry 0.68 0.58 #2b1a12 #d4af37 #f3dfa0 block   #3b2114
tealyn-80          Tealyn     breakfast_tea   box    pantry 0.56 1.05 #7a1f2b #e8c766 #f7e7b5 stripes #ffffff
crunchetta-salt    Crunchetta sea_salt        bag    snacks 1.00 0.74 #d8232a #ffd23f #ffffff burst   #ffffff
crunchetta-herb    Crunchetta garden_herb     bag    snacks 1.00 0.74 #2e8b3d #ffe66d #ffffff burst   #ffffff
papadoro-chili     Papadoro   chili_corn      bag    snacks 0.94 0.76 #1c1c22 #ff5a1f #ffb42e wave    #ffffff
papadoro-cheese    Papadoro   cheese_corn     bag    snacks 0.94 0.76 #f59e0b #1d3f91 #ffffff wave    #ffffff
nutoria-mix        Nutoria    trail_mix       bag    snacks 0.80 0.72 #e7dcc6 #4b6b2a #3c3a1e peaks   #ffffff
saltino-sticks     Saltino    pretzel_sticks  box    snacks 0.86 0.56 #1f5ca8 #f6c445 #ffffff stripes #ffffff
bisquette-choc     Bisquette  choc_biscuits   box    snacks 0.60 1.00 #6b2f16 #f4d19b #ffffff band    #ffffff
wafrina-nut        Wafrina    hazelnut_wafers box    snacks 0.66 0.86 #0f7a68 #ffe29a #ffffff wave    #ffffff
"""


@dataclass(frozen=True, slots=True)
class Product:
    """One product. ``tall``: share of the height of its aisle's tallest one. ``slim``: its width over its height.

    Colours are ``#rrggbb``: ``base`` and ``accent`` of the label, ``ink`` of its text, ``filling`` of what is
    visible through a bottle or a jar.
    """

    code: str
    brand: str
    variety: str
    shape: Shape
    aisle: Aisle
    tall: float
    slim: float
    base: str
    accent: str
    ink: str
    art: Art
    filling: str


def _read(line: str) -> Product:
    code, brand, variety, shape, aisle, tall, slim, base, accent, ink, art, filling = line.split()
    return Product(
        code,
        brand,
        variety.replace("_", " "),
        cast(Shape, shape),
        cast(Aisle, aisle),
        float(tall),
        float(slim),
        base,
        accent,
        ink,
        cast(Art, art),
        filling,
    )


PRODUCTS: tuple[Product, ...] = tuple(_read(line) for line in _TABLE.strip().splitlines())


def of_aisle(aisle: Aisle) -> tuple[Product, ...]:
    """Return the products of that aisle, in a fixed order."""
    return tuple(product for product in PRODUCTS if product.aisle == aisle)
