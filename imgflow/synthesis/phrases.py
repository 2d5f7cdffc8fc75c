"""What overlays say: one set of words for training, another for benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Words:
    """Words to put phrases together from."""

    captions: tuple[str, ...]
    marks: tuple[str, ...]
    sites: tuple[str, ...]
    chrome: tuple[str, ...]
    products: tuple[str, ...]
    small_print: tuple[str, ...]


TRAINING = Words(
    captions=(
        "Summer collection",
        "New arrival",
        "Limited offer",
        "Free shipping worldwide",
        "Handmade with love",
        "Our best seller",
        "Now only 19.99",
        "Buy one get one free",
        "Spring sale",
        "50% OFF",
        "Click to zoom",
        "Actual colour may vary",
        "Front view",
        "Size guide on page 2",
        "Made in Portugal",
        "Available in 5 colours",
        "Order today",
        "Winter catalog 2023",
        "Picture for reference only",
        "Satisfaction guaranteed",
        "Новая коллекция",
        "Скидка на всё",
        "新品上市",
        "包邮",
        "图片仅供参考",
        "Nouveautés",
        "Jetzt bestellen",
        "Kostenloser Versand",
        "Oferta especial",
        "Novità della stagione",
    ),
    marks=(
        "SAMPLE",
        "PREVIEW",
        "PROOF",
        "DRAFT",
        "DO NOT COPY",
        "PHOTOBANK",
        "STOCKIMAGE",
        "Northlight Studio",
        "Maria Jensen Photography",
        "imagehub",
        "DEMO",
        "CONFIDENTIAL",
        "PIXELMART",
        "Blue Door Prints",
        "Foto Alvarez",
        "样品",
        "ОБРАЗЕЦ",
        "NOT FOR SALE",
    ),
    sites=(
        "www.example-shop.com",
        "bestdeals.net",
        "http://photos.example.org",
        "shopnow.de",
        "@daily.finds",
        "my-little-store.co.uk",
        "facebook.com/oursho",
        "www.fotolavka.ru",
    ),
    chrome=(
        "12:45",
        "9:41 AM",
        "87%",
        "LTE",
        "5G",
        "Save",
        "Share",
        "Edit",
        "Delete",
        "Back",
        "Photos",
        "Messages",
        "Add to cart",
        "Search",
        "Reply",
        "Follow",
        "2 of 14",
        "Done",
        "Screenshot",
        "Carrier",
        "Like",
        "Cancel",
        "See all",
        "1.2k views",
    ),
    products=(
        "NORDWIND",
        "Atlas",
        "pure soap",
        "Organic Green Tea",
        "NET WT 250 g",
        "BREWMASTER",
        "since 1987",
        "Caffe Roma",
        "Vitamin C",
        "TURBO 3000",
        "Marathon",
        "KINGFISHER",
        "EXTRA VIRGIN",
        "Shampoo",
        "No. 5",
        "MOUNTAIN",
        "Lemon & Mint",
        "100% cotton",
        "L",
        "Model X-12",
        "SPORT",
        "DANGER",
        "EXIT",
        "Bakery",
        "OPEN",
        "Taxi",
        "27",
        "POLICE",
        "Water Resistant",
        "AUTOMATIC",
        "Honey",
        "DELUXE",
        "Kitchen",
        "Handle with care",
        "NEW",
        "LIGHT",
        "Original",
        "Classic Roast",
        "60 capsules",
        "TEAM 08",
        "Wireless Charger",
        "ultra soft",
        "茶",
        "有机绿茶",
        "Молоко",
        "Fine Goods Co.",
    ),
    small_print=(
        "Ingredients: water, sugar, citric acid,",
        "natural flavour, salt, vitamin E",
        "Keep out of reach of children.",
        "Store in a cool, dry place",
        "Best before: see lid",
        "Distributed by Norden Foods Ltd.",
        "12 FL OZ (355 mL)",
        "Shake well before use",
        "Do not exceed the stated dose",
        "Made in Portugal",
        "Machine wash warm, tumble dry low",
        "Batch 2231-A  EXP 05/2026",
        "Input: 100-240 V, 50/60 Hz",
        "Nutrition facts",
        "Energy 210 kJ / 50 kcal",
        "www.norden-foods.example",
        "Recycle this bottle",
        "Apply to wet hair, rinse",
    ),
)
"""Seen in training."""

HELD_OUT = Words(
    captions=(
        "Autumn essentials",
        "Back in stock",
        "Shown with optional stand",
        "While supplies last",
        "Members save 15%",
        "Gift idea",
        "Fast delivery in 24 h",
        "Top rated",
        "Clearance event",
        "Rear side",
        "Detail of the seam",
        "Two year warranty",
        "Новинка сезона",
        "限时优惠",
        "Offre du mois",
        "Nur solange Vorrat reicht",
        "Mix and match",
        "Colour: walnut",
    ),
    marks=(
        "SPECIMEN",
        "EVALUATION",
        "COMP IMAGE",
        "Harbour Lane Images",
        "lensgallery",
        "UNPAID",
        "J. Okafor Fotografie",
        "VIEWPOINT",
        "MUSTER",
        "Pine & Co",
        "photovault",
        "TEST ONLY",
    ),
    sites=(
        "www.cornerstore.io",
        "harbourlane.com",
        "https://lens.example.net",
        "@thegoodshelf",
        "marktplatz24.de",
        "www.oldtownmarket.org",
    ),
    chrome=(
        "14:07",
        "8:15 PM",
        "63%",
        "4G",
        "Wi-Fi",
        "Gallery",
        "Copy link",
        "Send",
        "Close",
        "Comments",
        "Buy now",
        "Next",
        "Download",
        "3 / 20",
        "Report",
        "Options",
        "Saved",
    ),
    products=(
        "SUNDIAL",
        "Verde",
        "hand cream",
        "Roasted Almonds",
        "500 ml",
        "IRONWORKS",
        "est. 1921",
        "La Cantina",
        "Omega",
        "PRO 9",
        "Voyager",
        "HERON",
        "COLD PRESSED",
        "Conditioner",
        "RIVER",
        "Ginger & Lime",
        "merino wool",
        "XL",
        "Type 4B",
        "RACING",
        "STOP",
        "Library",
        "CLOSED",
        "Bus 14",
        "Quartz",
        "Jasmine",
        "FRAGILE",
        "Garden",
        "Est. in Lyon",
        "MILD",
        "Dark Chocolate",
        "90 tablets",
        "CREW 21",
        "USB-C Hub",
        "stone washed",
        "Холод",
        "咖啡",
    ),
    small_print=(
        "Contains: oats, milk powder, cocoa,",
        "may contain traces of nuts",
        "Not suitable for infants.",
        "Protect from frost and light",
        "Use by: see bottom",
        "Produced for Linden Trading GmbH",
        "16 OZ (454 g)",
        "Serve chilled",
        "One capsule a day with water",
        "Fabriqué en France",
        "Wash at 30, do not bleach",
        "Lot 7714  MFD 11/2024",
        "Output: 5 V, 2.4 A",
        "Directions for use",
        "Fat 3.1 g  Protein 8 g",
        "www.linden-trading.example",
    ),
)
"""Kept for benchmarks."""


def date(chance: Random) -> str:
    """A date as a camera or an app stamps it, with or without the time."""
    year, month, day = chance.randint(1994, 2026), chance.randint(1, 12), chance.randint(1, 28)
    text = chance.choice(
        (
            f"'{year % 100:02} {month:2} {day:2}",
            f"{year}/{month:02}/{day:02}",
            f"{day:02}.{month:02}.{year}",
            f"{year}-{month:02}-{day:02}",
            f"{month}/{day}/{year % 100:02}",
            f"{day:02} {month:02} '{year % 100:02}",
        )
    )
    clock = f"{chance.randint(0, 23):02}:{chance.randint(0, 59):02}"
    return f"{text}  {clock}" if chance.random() < 0.3 else text


def caption(words: Words, chance: Random) -> str:
    """A sentence of a shop, or its address."""
    return chance.choice(words.captions if chance.random() < 0.7 else words.sites)


def mark(words: Words, chance: Random) -> str:
    """A watermark."""
    text = chance.choice(words.marks if chance.random() < 0.75 else words.sites)
    return f"© {text}" if chance.random() < 0.12 else text


def gibberish(chance: Random) -> str:
    """Letters and digits without meaning: what strokes look like must not depend on words."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,:;-&%!?/()"
    words = ("".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in range(3))
    return " ".join(list(words)[: chance.randint(1, 3)])
